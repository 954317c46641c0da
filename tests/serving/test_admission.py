from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeostat.serving.admission import CLIENTS, WAITING, Admission
from homeostat.serving.pace import BUDGET, LEAST, MOST, Pace
from homeostat.serving.spec import Limit, ServingSpec

ANYBODY = "192.0.2.1"


@given(
    rate=st.floats(1, 1000),
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_a_second_and_the_time_gone_by_are_let_in(
    rate: float, gaps: list[float]
) -> None:
    admission = Admission(ServingSpec(limit=Limit(per_second=rate)))
    now, let_in = 100.0, 0
    for gap in gaps:
        now += gap
        let_in += admission.refused(ANYBODY, 0, 0, now) is None
    assert let_in <= rate * (1 + now - 100.0) + 1


@given(rate=st.floats(1, 1000))
def test_who_keeps_to_the_rate_is_always_let_in(rate: float) -> None:
    admission = Admission(ServingSpec(limit=Limit(per_client=rate)))
    for k in range(100):
        assert admission.refused(ANYBODY, 0, 0, 10.0 + k * 1.001 / rate) is None


def test_one_client_over_its_rate_holds_up_no_other() -> None:
    admission = Admission(ServingSpec(limit=Limit(per_client=2)))
    refusals = [admission.refused(ANYBODY, 0, 0, 1.0) for _ in range(10)]
    assert [r.status for r in refusals if r] == [429] * 8
    assert admission.refused("192.0.2.2", 0, 0, 1.0) is None


def test_the_rate_in_all_is_divided_over_the_workers() -> None:
    admission = Admission(ServingSpec(limit=Limit(per_second=100)), workers=4)
    assert sum(admission.refused(str(i), 0, 0, 1.0) is None for i in range(100)) == 25


def test_clients_are_not_remembered_without_end() -> None:
    admission = Admission(ServingSpec(limit=Limit(per_client=1)))
    for i in range(CLIENTS + 10):
        assert admission.refused(str(i), 0, 0, 1.0) is None
    assert len(admission._clients) == CLIENTS


def test_full_queues_shed() -> None:
    admission = Admission(ServingSpec(concurrency=3))
    assert admission.refused(ANYBODY, 2, 0, 1.0) is None
    for in_flight, rows in ((3, 0), (0, WAITING)):
        refused = admission.refused(ANYBODY, in_flight, rows, 1.0)
        assert refused is not None
        assert refused.status == 503


@given(runs=st.lists(st.tuples(st.integers(1, MOST), st.floats(0, 0.1)), max_size=50))
def test_the_pace_stays_within_its_bounds_and_slows_down_after_a_long_run(
    runs: list[tuple[int, float]],
) -> None:
    pace = Pace()
    for rows, seconds in runs:
        before = pace.limit
        pace.ran(rows, seconds)
        assert LEAST <= pace.limit <= MOST
        if seconds > BUDGET:
            assert pace.limit <= max(LEAST, before // 2)
        else:
            assert pace.limit >= before


def test_a_pace_finds_the_batch_that_fits_its_budget() -> None:
    pace, cost = Pace(), 0.0001  # seconds per row: 50 rows fit
    for _ in range(100):
        pace.ran(pace.limit, pace.limit * cost)
    assert 25 <= pace.limit <= 58
