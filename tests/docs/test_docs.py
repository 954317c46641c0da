"""What the documents show is what happens (see conftest.py for how blocks are marked)."""

from __future__ import annotations

import doctest
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from homeostat.definition import load


def _helpers() -> ModuleType:
    """conftest.py is not importable by name where tests are no packages."""
    spec = importlib.util.spec_from_file_location(
        "docs_conftest", Path(__file__).with_name("conftest.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


helpers = _helpers()
ROOT: Path = helpers.ROOT


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def with_blocks(*languages: str) -> list[Any]:
    """The documents that hold such blocks, those that say so marked as slow."""
    found = []
    for document in helpers.documents():
        if any(b.language in languages and not b.skipped for b in helpers.blocks(document)):
            marks = [pytest.mark.slow] if helpers.is_slow(document) else []
            found.append(pytest.param(document, id=name(document), marks=marks))
    return found


def of(document: Path, *languages: str) -> list[Any]:
    return [b for b in helpers.blocks(document) if b.language in languages and not b.skipped]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", with_blocks("console", "python"))
def test_sessions_and_python_do_what_the_document_shows(
    document: Path, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {"__name__": "document"}
    for block in of(document, "console", "python"):
        where = f"{name(document)}:{block.line}"
        if block.language == "python":
            monkeypatch.chdir(shell.where)
            run_python(block, names, where)
        else:
            run_session(block, shell, where)


def run_python(block: Any, names: dict[str, Any], where: str) -> None:
    if ">>>" not in block.body:
        exec(compile(block.body, where, "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(block.body, names, where, where, block.line)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, clear_globs=False)
    assert runner.failures == 0, where
    names.update(test.globs)


def run_session(block: Any, shell: Any, where: str) -> None:
    steps = helpers.steps(block.body)
    assert steps, f"{where}: no `$ command`"
    if "background" in block.flags:
        shell.start(steps[0].command, steps[0].expected)
        return
    wanted = next((int(f[6:]) for f in block.flags if f.startswith("fails=")), 0)
    for step in steps:
        if step.command.startswith("make "):
            continue  # targets of the repository are run by its own checks
        if helpers.SERVES.search(step.command):
            shell.start(step.command, step.expected)
            continue
        printed, code = shell.run(step.command)
        last = step is steps[-1]
        told = f"{where}\n$ {step.command}\nprinted (exit code {code})\n{printed}"
        assert code == (wanted if last else 0), told
        if step.expected.strip():
            assert helpers.matches(step.expected, printed), f"{told}\nand not\n{step.expected}"


BASE = """
name: a-model
data: {source: a.csv, time: t, key: k, label: {column: y, matures_after: 7d}}
training: {fit: "a:fit", split: {train: 28d, gap: 7d, test: 7d}}
monitoring: {quality: {metric: auc, min: 0.8}}
"""


@pytest.mark.parametrize("document", with_blocks("yaml"))
def test_definitions_load(document: Path, tmp_path: Path) -> None:
    sections = set(yaml.safe_load(BASE)) | {"gates", "serving", "rollout", "retraining"}
    for block in of(document, "yaml"):
        keys = set(re.findall(r"^(\w+):", block.body, re.MULTILINE))
        if not keys & sections:
            continue  # the YAML of something else
        base = [line for line in BASE.splitlines() if line.partition(":")[0] not in keys]
        (tmp_path / "homeostat.yaml").write_text(
            "\n".join(base) + "\n" + block.body, encoding="utf-8"
        )
        load(tmp_path)


@pytest.mark.parametrize("document", [pytest.param(d, id=name(d)) for d in helpers.documents()])
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{name(document)}: {target}"


def links(document: Path) -> list[tuple[Path, str]]:
    """-> the files that a document links to, each with the anchor in it (or nothing)."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", text)
    local = [(p, a) for p, a in found if "://" not in p and not p.startswith("mailto:")]
    return [((document.parent / p).resolve() if p else document, a) for p, a in local]


def anchors(document: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", head.lower()) for head in heads]
    return {head.replace(" ", "-") for head in kept}


@pytest.mark.parametrize("document", [pytest.param(d, id=name(d)) for d in helpers.documents()])
def test_links_to_a_part_of_a_page_name_one_of_its_headings(document: Path) -> None:
    for path, anchor in links(document):
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{name(document)}: {path.name}#{anchor}"


def test_every_page_is_in_an_index() -> None:
    docs = ROOT / "docs"
    listed = {path for index in docs.rglob("README.md") for path, _ in links(index)}
    missing = [p for p in docs.rglob("*.md") if p not in listed and p != docs / "README.md"]
    assert [str(p.relative_to(docs)) for p in missing] == []


def test_decisions_are_listed_by_their_titles() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    for page in sorted((ROOT / "docs/decisions").glob("0*.md")):
        number, _, title = page.read_text().splitlines()[0].removeprefix("# ").partition(". ")
        assert f"| {number} | [{title}]({page.name}) |" in index


def test_the_runner_tells_apart_what_was_printed() -> None:
    assert helpers.matches("a ... c\n...\nz\n", "a b c\n1\n2\nz\n")
    assert helpers.matches("...\nz", "z\n")
    assert not helpers.matches("a\n", "a\nb\n")
    assert not helpers.matches("a.c", "abc")
    assert helpers.steps("$ one\nout\n\nmore\n$ two\n") == [
        ("one", "out\n\nmore\n"),
        ("two", ""),
    ]
