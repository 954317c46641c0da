"""An error is one line that teaches."""

from __future__ import annotations

import pytest

from homeostat.core import errors
from homeostat.core.errors import BadDefinition, BadInput, HomeostatError


def test_the_line_says_where_what_expected_found_and_what_to_do() -> None:
    error = HomeostatError(
        "unknown metric", path="$.gates", expected="auc", found="'acu'", remedy="did you mean auc?"
    )
    assert str(error) == "$.gates: unknown metric; expected auc, found 'acu' -> did you mean auc?"


def test_it_stays_one_line_whatever_was_found() -> None:
    assert "\n" not in str(HomeostatError("bad", found="a\nb\r\nc", remedy="look\nthere"))


def test_a_definition_tells_of_all_its_mistakes() -> None:
    mistakes = [BadInput("first"), BadInput("second")]
    error = BadDefinition(mistakes)
    assert str(error) == "first (and 1 more)"
    assert error.mistakes == mistakes


@pytest.mark.parametrize(
    ("kind", "code"),
    [("BadInput", 2), ("NotFound", 2), ("Refused", 1), ("Conflict", 3), ("Unavailable", 3),
     ("Damaged", 3)],
)  # fmt: skip
def test_the_class_decides_the_exit_code(kind: str, code: int) -> None:
    assert getattr(errors, kind).exit_code == code
