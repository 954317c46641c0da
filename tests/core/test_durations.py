"""Durations read and print the way people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.duration import Duration, default
from homeostat.core.errors import BadInput


@given(st.integers(0, 10**12))
def test_what_is_printed_is_read_back_exactly(milliseconds: int) -> None:
    duration = Duration(milliseconds=milliseconds)
    assert Duration.parse(str(duration)) == duration if milliseconds else str(duration) == "0s"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("7d", 604800), ("1w", 604800), ("250ms", 0.25),
     ("1d12h", 129600), ("0s", 0)],
)  # fmt: skip
def test_every_unit_is_read(text: str, seconds: float) -> None:
    assert Duration.parse(text).total_seconds() == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (90, "1m30s"), (604800, "7d"), (1209600, "14d"), (129600, "1d12h"),
     (0.25, "250ms")],
)  # fmt: skip
def test_it_prints_as_one_would_write_it(seconds: float, text: str) -> None:
    assert str(Duration.of(timedelta(seconds=seconds))) == text


@pytest.mark.parametrize(
    "text", ["", "10", "m", "10 m", "-5m", "10m ", "10m\n", "1y", "ten", "1e3s"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="such as 10m or 7d"):
        Duration.parse(text)


def test_a_default_is_checked_when_it_is_used() -> None:
    assert default("10m").default_factory() == timedelta(minutes=10)
