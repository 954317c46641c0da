"""What a soak holds, judged from what clients saw, what the server counted and what was logged."""

from __future__ import annotations

import pytest
from benchmarks.serving.soak import GROWTH, SETTLING, Point, Told, grown, judged
from benchmarks.serving.stats import BLOCKS, Trend

COUNTED = {
    "requests": 110, "answered": 100, "shed": 4, "failed": 6, "lost": 2, "log_dropped": 0
}  # fmt: skip


def verdicts(
    answered: int = 98, broken: int = 3, predictions: int = 100, logged: int = 101, **changed: int
) -> list[bool]:
    told, counted = Told(answered, broken, 1.0), COUNTED | changed
    return [f.held for f in judged(told, counted, predictions, logged, [Trend(0.2, 0.1, 0.3)])]


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


@pytest.mark.parametrize(
    ("growth", "held", "says"),
    [
        ([], False, "not seen for long enough"),
        ([Trend(0.2, -0.1, GROWTH)], True, "+0.20, 95 % interval -0.10 to +1.00"),
        ([Trend(0.2, -5.0, 5.4)], False, "undecided"),
        ([Trend(0.2, -0.1, 0.5), Trend(3.0, 2.0, 4.0)], False, "(the worst of 2)"),
    ],
)
def test_memory_holds_only_when_it_was_shown_to(growth: list[Trend], held: bool, says: str) -> None:
    finding = judged(Told(0, 0, 1.0), COUNTED, 0, 0, growth)[4]
    assert finding.held is held
    assert says in finding.found


def test_growth_counts_only_after_a_worker_has_settled() -> None:
    points = [Point(float(t), t / 50, 100.0 - 50 / (t + 1)) for t in range(int(SETTLING))]
    assert grown(points) is None
    more = range(int(SETTLING), int(SETTLING) + 3 * BLOCKS)
    points += [Point(float(t), t / 50, 100.0 + 0.7 * t / 50) for t in more]
    found = grown(points)
    assert found is not None
    assert found.slope == pytest.approx(0.7)
