"""The user's functions are found in the project's folder, and their mistakes are told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeostat.core.errors import BadInput
from homeostat.definition import check, code_digest, load_function

Make = Callable[[str], Path]


@pytest.fixture(autouse=True)
def path_as_it_was() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before


def write(root: Path, **modules: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, text in modules.items():
        (root / f"{name}.py").write_text(text)
    return root


def test_a_function_of_the_project_is_imported(tmp_path: Path) -> None:
    write(tmp_path, mine="from helper import two\ndef f(): return two()", helper="two = lambda: 2")
    assert load_function("mine:f", tmp_path)() == 2


def test_two_projects_with_modules_of_the_same_name_do_not_mix(tmp_path: Path) -> None:
    first = write(tmp_path / "a", mine="import helper\ndef f(): return helper.X", helper="X = 1")
    second = write(tmp_path / "b", mine="import helper\ndef f(): return helper.X", helper="X = 2")
    assert load_function("mine:f", first)() == 1
    assert load_function("mine:f", second)() == 2
    assert load_function("mine:f", first)() == 1


def test_an_edit_is_seen_even_within_the_same_second(tmp_path: Path) -> None:
    write(tmp_path, mine="import helper\ndef f(): return helper.X", helper="X = 1")
    assert load_function("mine:f", tmp_path)() == 1
    write(tmp_path, helper="X = 2")
    assert load_function("mine:f", tmp_path)() == 2
    assert not list(tmp_path.rglob("*.pyc"))


def test_a_function_of_an_installed_package_is_imported(tmp_path: Path) -> None:
    import math

    assert load_function("math:sqrt", tmp_path) is math.sqrt


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("mint:f", "def f(): ...", "did you mean `mine`?"),
        ("other:f", "def f(): ...", "write other.py with a function `f`"),
        ("mine:feature", "def features(): ...", "did you mean `features`?"),
        ("mine:f", "f = 3", "expected a function, found int"),
        ("mine:f", "x = 1\ndef f(:\n", "mine.py line 2"),
        ("mine:f", "x = 1\n1 / 0\n", "mine.py line 2: ZeroDivisionError"),
        ("mine:f", "import no_such_thing", "install `no_such_thing`"),
        ("mine:f", "raise SystemExit(3)", "SystemExit: 3"),
        ("json:f", "def f(): ...", "no function `f`"),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_line(
    tmp_path: Path, name: str, code: str, says: str
) -> None:
    write(tmp_path, mine=code)
    with pytest.raises(BadInput) as caught:
        load_function(name, tmp_path)
    assert says in caught.value.line()
    assert "\n" not in caught.value.line()


def test_a_module_whose_name_is_taken_is_told(tmp_path: Path) -> None:
    write(tmp_path, json="def f(): ...")
    with pytest.raises(BadInput, match=r"taken by .* rename json.py"):
        load_function("json:f", tmp_path)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def features(): ...\ndef fit(train, params): ...", "def features(frame):"),
        ("def features(f): ...\ndef fit(train): ...", "def fit(train, params):"),
        ("def features(f): ...\ndef fit(t, p, more): ...", "'more'"),
    ],
)
def test_check_sees_functions_that_cannot_take_their_arguments(
    project: Make, right: str, code: str, says: str
) -> None:
    root = write(project(right), fraud=code)
    (found,) = check(root).mistakes
    assert says in found.line()


def test_check_accepts_functions_that_can_take_more(project: Make, right: str) -> None:
    code = "def features(frame, *, fast=True): ...\ndef fit(*args, **more): ..."
    assert check(write(project(right), fraud=code)).mistakes == []


def test_the_digest_changes_with_the_module_and_with_what_it_imports(tmp_path: Path) -> None:
    write(tmp_path, mine="from helper import X\ndef f(): ...", helper="X = 1", other="Y = 1")
    before = code_digest("mine:f", tmp_path)
    write(tmp_path, other="Y = 2")
    assert code_digest("mine:f", tmp_path) == before
    write(tmp_path, helper="X = 2")
    after = code_digest("mine:f", tmp_path)
    assert after != before
    write(tmp_path, mine="from helper import X\ndef f(): pass")
    assert code_digest("mine:f", tmp_path) != after


def test_the_digest_follows_packages_and_relative_imports(tmp_path: Path) -> None:
    package = write(tmp_path / "pack", __init__="", a="from . import b\ndef f(): ...", b="X = 1")
    before = code_digest("pack.a:f", tmp_path)
    write(package, b="X = 2")
    assert code_digest("pack.a:f", tmp_path) != before


def test_the_digest_does_not_depend_on_where_the_project_is(tmp_path: Path) -> None:
    first, second = (write(tmp_path / n, mine="def f(): ...") for n in "ab")
    assert code_digest("mine:f", first) == code_digest("mine:f", second)
