"""What a soak holds, judged from what clients saw, what the server counted and what was logged."""

from __future__ import annotations

import pytest
from benchmarks.serving.soak import SETTLING, Told, grown, judged

COUNTED = {
    "requests": 110, "answered": 100, "shed": 4, "failed": 6, "lost": 2, "log_dropped": 0
}  # fmt: skip


def verdicts(
    answered: int = 98, broken: int = 3, predictions: int = 100, logged: int = 101, **changed: int
) -> list[bool]:
    told, counted = Told(answered, broken, 1.0), COUNTED | changed
    return [f.held for f in judged(told, counted, predictions, logged, {1: 0.2})]


def test_what_the_kills_cut_off_is_allowed_for() -> None:
    assert verdicts() == [True] * 5


@pytest.mark.parametrize(
    ("wrong", "which"),
    [
        ({"requests": 111}, 0),  # one has not ended
        ({"answered": 101}, 1),  # an answer was heard that nobody counted
        ({"answered": 96}, 1),  # more unheard than were broken off
        ({"logged": 99}, 2),  # a counted prediction is not in the log
        ({"logged": 103}, 2),  # more in it than kills can explain
        ({"log_dropped": 1}, 3),
    ],
)
def test_one_request_too_many_or_too_few_is_found(wrong: dict[str, int], which: int) -> None:
    held = verdicts(**wrong)
    assert held[which] is False


def test_memory_that_was_not_seen_for_long_enough_is_no_pass() -> None:
    assert judged(Told(0, 0, 1.0), COUNTED, 0, 0, {})[4].held is False


def test_growth_counts_only_after_a_worker_has_settled() -> None:
    points = [(float(t), 100.0 - 50 / (t + 1)) for t in range(int(SETTLING))]
    assert grown(points) != grown(points)
    points += [(SETTLING + t, 100.0 + t / 60) for t in range(60)]
    assert grown(points) == pytest.approx(1.0)
