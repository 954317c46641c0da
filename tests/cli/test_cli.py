"""The command line: exit codes, one line of help for what went wrong, JSON for machines."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from homeostat.cli import main as cli
from homeostat.core.errors import Damaged, HomeostatError, Refused, Unavailable


def homeostat(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "homeostat", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | more,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert cli.run(["init", str(tmp_path / "fraud")]) == 0
    return tmp_path / "fraud"


SLOW = {"scipy", "polars", "pyarrow", "deltalake", "mlflow", "sklearn", "onnxruntime", "httpx"}


def imported(*words: str) -> tuple[str, set[str]]:
    """-> what the command prints, and the modules that it left imported."""
    code = (
        "import json, sys; from homeostat.cli.main import run; code = run(sys.argv[1:]);"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return done.stdout, set(json.loads(done.stderr))


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["up", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    text, modules = imported(*words)
    assert "homeostat" in text
    assert "keeper" not in text
    assert modules & {*SLOW, "numpy", "sqlalchemy", "jsonschema", "yaml", "rich"} == set()


@pytest.mark.parametrize("group", [[], ["rollout"], ["monitors"], ["labels"], ["export"]])
def test_help_says_what_each_command_does_without_being_cut_off(group: list[str]) -> None:
    text, _ = imported(*group, "--help")
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize(
    "words", [["status"], ["history"], ["rollout", "status"], ["monitors", "silences"]]
)
def test_a_look_at_how_things_stand_waits_for_no_tables(words: list[str], folder: Path) -> None:
    _, modules = imported("-C", str(folder), *words)
    assert "sqlalchemy" in modules
    assert modules & {*SLOW, "numpy"} == set()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stat"], "Did you mean"),
        (["run", "--frm", "train"], "No such option"),
        (["run", "--from", "trane"], "'trane' is not one of 'ingest'"),
        (["stage", "train"], "--run"),
        (["up", "--port", "99999"], "65535"),
        (["serve", "--grpc-port", "99999"], "65535"),
        (["demo", "--act", "recover"], "did you mean `recovery`?"),
        (["labels", "import"], "FILE"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith("error: ")
    assert says in told.err


def test_without_arguments_it_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("homeostat 0.")


def test_init_refuses_a_folder_that_holds_something(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(p.name for p in folder.iterdir())
    assert cli.run(["init", str(folder)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == before


def test_init_takes_an_empty_folder_and_makes_parents(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.run(["init", str(tmp_path / "empty")]) == 0
    assert cli.run(["init", str(tmp_path / "a" / "b" / "c")]) == 0


def test_init_makes_the_same_project_every_time(tmp_path: Path, folder: Path) -> None:
    assert cli.run(["init", str(tmp_path / "again")]) == 0
    for made in folder.rglob("*"):
        if made.is_file():
            again = tmp_path / "again" / made.relative_to(folder)
            assert again.read_bytes() == made.read_bytes(), made.name


def test_what_init_makes_passes_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.run(["-C", str(folder), "check"]) == 0
    assert capsys.readouterr().out == (
        "ok: fraud-detector, from data/transactions.parquet; "
        "fraud:features and fraud:fit can be called\n"
    )


def test_check_finds_the_project_from_a_folder_inside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "data")
    assert cli.run(["check"]) == 0


def test_check_prints_every_mistake_on_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "homeostat.yaml"
    path.write_text(path.read_text().replace("auc: {min", "acu: {min").replace("[10,", "[40,"))
    capsys.readouterr()
    assert cli.run(["check", "-C", str(folder)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert "did you mean `auc`?" in told[0]
    assert "$.rollout.steps[1]" in told[1]
    assert told[2] == "2 mistakes"


def test_check_warns_on_stdout_and_succeeds(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "homeostat.yaml"
    path.write_text(path.read_text().replace("gap: 7d", "gap: 1d"))
    capsys.readouterr()
    assert cli.run(["check", "-C", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("warning: homeostat.yaml:")


def test_json_is_one_document_whether_it_goes_well_or_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert cli.run(["check", "--json", "-C", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    path = folder / "homeostat.yaml"
    path.write_text(path.read_text().replace("auc: {min", "acu: {min"))
    assert cli.run(["check", "--json", "-C", str(folder)]) == 2
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["ok"] is False
    assert answer["mistakes"][0]["path"] == "$.gates.acu"
    assert told.err.count("\n") == 1


def test_schema_prints_the_published_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "homeostat.yaml"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (Refused("the gate said no"), 1, "the gate said no"),
        (Unavailable("no answer", remedy="start it"), 3, "no answer -> start it"),
        (Damaged("not what was registered"), 3, "not what was registered"),
        (OSError(errno.ENOSPC, "full", "/disk/file"), 3, "the disk is full (/disk/file)"),
        (PermissionError(errno.EACCES, "no", "/etc/x"), 3, "not allowed: /etc/x"),
        (KeyError("x"), 3, "unexpected KeyError: 'x'"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    error: BaseException,
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> list[str]:
        raise error

    monkeypatch.setattr("homeostat.definition.example.scaffold", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cli.run(["init", "somewhere"]) == code
    told = capsys.readouterr().err
    assert says in told
    assert "Traceback" not in told
    if isinstance(error, KeyError):
        (written,) = tmp_path.glob("homeostat-error-*.txt")
        assert str(written) in told
        assert "Traceback" in written.read_text()


def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> list[str]:
        raise HomeostatError("no luck")

    monkeypatch.setattr("homeostat.definition.example.scaffold", fail)
    assert cli.run(["init", "somewhere", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_options_of_the_whole_command_may_stand_anywhere() -> None:
    assert cli.hoist(["run", "-C", "x", "--debug"]) == ["-C", "x", "--debug", "run"]
    assert cli.hoist(["run", "--project=x"]) == ["--project=x", "run"]
    assert cli.hoist(["run", "--", "-C", "x"]) == ["run", "--", "-C", "x"]
    assert cli.hoist(["run", "-C"]) == ["run", "-C"]


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m homeostat schema | head -1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_a_full_disk_is_told_while_scaffolding(tmp_path: Path) -> None:
    target = tmp_path / "ro"
    target.touch()
    done = homeostat("init", str(target / "project"))
    assert done.returncode in (2, 3)
    assert done.stderr.count("\n") == 1


def test_the_reference_names_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text()
    for command in cli.app.registered_commands:
        assert command.hidden or f"`{command.name}" in page, command.name
    for group in cli.app.registered_groups:
        assert f"`{group.name} " in page


def test_check_finds_targets_that_cannot_be_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = folder / "homeostat.yaml"
    text = definition.read_text().replace("notify: [console]", 'notify: [console, "http://a:b/"]')
    definition.write_text(text)
    assert cli.run(["-C", str(folder), "check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "$.monitoring.notify[1]: http://a is not an address" in line
    assert "homeostat.yaml:" in line
