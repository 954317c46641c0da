"""The project that `init` writes runs as it is, and the commands tell what happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homeostat.cli import main as cli

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("loop") / "fraud"
    assert cli.run(["init", str(made)]) == 0
    assert cli.run(["-C", str(made), "run"]) == 0
    return made


@pytest.fixture
def ask(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert cli.run(["-C", str(folder), *words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def test_the_run_registered_a_version_that_waits_to_be_served(ask: Any) -> None:
    found = ask("status")
    assert found["run"]["outcome"] == "registered"
    assert found["waiting"] == ["1"]
    assert found["champion"] is None


def test_a_stage_that_is_done_is_not_done_again(ask: Any) -> None:
    before = ask("history")
    assert ask("stage", "train", "--run", "run-1")["version"] == "1"
    assert ask("history") == before


def test_every_command_that_reads_speaks_to_people_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, says in (
        (["status"], "waiting     version 1"),
        (["history", "--evidence"], "AUC is"),
        (["lineage", "1"], "fraud-detector version 1, registered"),
        (["rollout", "status"], "no rollout yet"),
    ):
        capsys.readouterr()
        assert cli.run(["-C", str(folder), *words]) == 0
        assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["stage", "train", "--run", "run-9"], 2, "no run 'run-9'"),
        (["run", "--from", "train"], 2, "add --run ID"),
        (["run", "--run", "run-1", "--from", "train", "--to", "ingest"], 2, "comes after"),
        (["lineage", "9"], 2, "there is no version '9'"),
        (["rollout", "start", "9"], 2, "9"),
        (["rollout", "pause"], 1, ""),
        (["rollout", "explain"], 2, "no rollout yet -> homeostat rollout start"),
        (["rollout", "explain", "--format", "pdf"], 2, "expected md, json, html"),
        (["rollout", "abort", "--to", "9"], 1, "has never been the champion"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, says: str
) -> None:
    capsys.readouterr()
    assert cli.run(["-C", str(folder), *words]) == code
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert says in told


def test_a_run_that_was_interrupted_says_how_to_go_on(tmp_path: Path) -> None:
    project = tmp_path / "fraud"
    assert cli.run(["init", str(project)]) == 0
    code = project / "fraud.py"
    kept = code.read_text()
    ctrl_c = "    import os, signal\n    os.kill(os.getpid(), signal.SIGINT)\n"
    code.write_text(kept.replace("    from lightgbm", f"{ctrl_c}    from lightgbm"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "homeostat", "-C", str(project), *words]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    stopped = run("run")
    assert stopped.returncode == cli.INTERRUPTED
    assert stopped.stderr.endswith("go on with: homeostat run --run run-1\n")
    assert "if it was stopped, go on with: homeostat run --run run-1" in run("status").stdout
    code.write_text(kept)
    on = run("run", "--run", "run-1")
    assert on.stdout.endswith("version 1 is registered; next: homeostat up\n"), on.stderr
    assert "if it was stopped" not in run("status").stdout


def test_labels_are_taken_in_once(folder: Path, ask: Any) -> None:
    file = folder / "outcomes.csv"
    file.write_text("id,label,time\na,1,2026-01-01T00:00:00Z\nb,0,2026-01-01T00:00:00Z\n")
    assert ask("labels", "import", str(file)) == {"rows": 2, "new": 2}
    assert ask("labels", "import", str(file))["new"] == 0


def test_a_gate_that_says_no_is_exit_code_1(ask: Any, folder: Path) -> None:
    path = folder / "homeostat.yaml"
    before = path.read_text()
    path.write_text(before.replace("auc: {min: 0.80}", "auc: {min: 0.999}"))
    try:
        refused = ask("run", code=1)
    finally:
        path.write_text(before)
    assert refused["version"] is None
    assert refused["verdict"]["outcome"] == "fail"
    assert "register" not in refused["stages"]


def test_a_persons_rollout_is_explained_and_an_earlier_champion_can_be_returned_to(
    folder: Path, ask: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["-C", str(folder), "run"]) == 0
    ask("rollout", "start", "1", "--by", "anna")
    started = ask("rollout", "start", "2", "--by", "anna")
    assert started["strategy"] == "canary"
    ask("rollout", "promote", "--by", "anna", "--why", "a fix")
    assert ask("status")["champion"]["version"] == "2"
    capsys.readouterr()
    assert cli.run(["-C", str(folder), "rollout", "explain"]) == 0
    assert capsys.readouterr().out.endswith("the registry.\n")
    nowhere = str(tmp_path / "nowhere" / "why.html")
    assert cli.run(["-C", str(folder), "rollout", "explain", "--out", nowhere]) == 3
    assert f"{nowhere} cannot be written" in capsys.readouterr().err
    page = tmp_path / "why.html"
    capsys.readouterr()
    assert cli.run(["-C", str(folder), "rollout", "explain", "--out", str(page)]) == 0
    told = capsys.readouterr().out
    assert "Version 2 was promoted by anna in place of version 1" in told
    assert str(page) in told
    assert "a fix" in page.read_text()
    found = ask("rollout", "explain", started["id"])
    assert found["outcome"] == "promoted"
    assert found["people"][0].startswith("anna started it")
    assert found["origins"][0]["parts"]["data"].startswith("sha256:")
    ask("rollout", "abort", "--to", "1", "--by", "anna", "--why", "it was none")
    assert ask("status")["champion"]["version"] == "1"
    assert "returned to by anna: it was none" in ask("history")[-1]["sentence"]
