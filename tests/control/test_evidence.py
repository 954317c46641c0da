"""Evidence that is carried on from tick to tick is that of the whole log and ledger."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from homeostat.backends.memory.ledger import MemoryLedger
from homeostat.backends.memory.log import MemoryPredictionLog
from homeostat.control.evidence import Following
from homeostat.control.platform import Platform
from homeostat.core.duration import Duration
from homeostat.core.records import LABELS, PREDICTIONS
from homeostat.core.verdict import Verdict
from homeostat.rollout import commands
from homeostat.rollout.model import Rollout, evolve
from homeostat.rollout.seen.columns import in_order
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.seen.records import logged
from homeostat.rollout.spec import (
    BiasGuard,
    ErrorGuard,
    Guards,
    LatencyGuard,
    ObjectiveGuard,
    QualityGuard,
    RolloutSpec,
)
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import MODEL, START, World

SECOND = timedelta(seconds=1)
ARMS = [("1", "champion"), ("2", "canary"), ("1", "shadow"), ("2", "shadow"), ("7", "canary")]


def plan(**changes: Any) -> RolloutSpec:
    guards = Guards(
        quality=QualityGuard("brier", margin=0.1, by="country"),
        latency_p99=LatencyGuard(),
        error_rate=ErrorGuard(0.05),
        latency=ObjectiveGuard(Duration.of(5 * SECOND)),
        bias=BiasGuard("country", "equal_opportunity_difference"),
    )
    return RolloutSpec(**{"guards": guards, "block": Duration.of(2 * SECOND), **changes})


def begin(spec: RolloutSpec) -> Rollout:
    state: Rollout | None = None
    for event in commands.start(None, id="r", candidate="2", champion="1", plan=spec, now=START):
        state = evolve(state, event, START)
    assert state is not None
    return state


def stage(settles: timedelta = SECOND) -> Platform:
    world = World(0)
    world.registry.add("a run", Skill(0, GOOD))
    data = world.project.data
    label = type(data.label)("label", Duration.of(3 * SECOND))
    project = msgspec.structs.replace(
        world.project, data=msgspec.structs.replace(data, label=label)
    )
    log, labels = MemoryPredictionLog(), MemoryLedger()
    return dataclasses.replace(
        world.platform, project=project, log=log, labels=labels, settles=settles
    )


def record(id: str, second: float, arm: int, score: float | None, **more: Any) -> dict[str, Any]:
    version, name = ARMS[arm]
    country = "FR" if len(id) % 2 else "DE"
    return {
        "id": id,
        "time": START + second * SECOND,
        "model": MODEL,
        "version": version,
        "arm": name,
        "probability": 0.5 if name != "shadow" else 1.0,
        "latency": 4.0 + (score or 2.0),
        "features": [],
        "score": score,
        "error": None if score is not None else "it broke",
        "inputs": f'{{"country":"{country}"}}',
        "propensity": 1.0,
        **more,
    }


def keep(platform: Platform, *rows: dict[str, Any]) -> None:
    assert isinstance(platform.log, MemoryPredictionLog)
    platform.log.append(MODEL, pl.DataFrame(list(rows), schema=PREDICTIONS))


def tell(platform: Platform, id: str, label: float, known: float) -> None:
    row = (id, label, START, START + known * SECOND)
    platform.labels.append(pl.DataFrame([row], schema=LABELS, orient="row"))


def same(one: Verdict, other: Verdict) -> None:
    assert (one.check, one.outcome, one.n) == (other.check, other.outcome, other.n)
    nothing = float("-inf")
    figures = [
        [nothing if f is None else f for f in (v.figure, v.low, v.high)] for v in (one, other)
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-7, abs=1e-9)
    assert len(one.parts) == len(other.parts)
    for part, its in zip(one.parts, other.parts, strict=True):
        same(part, its)
    if not one.parts:  # how long it takes is told anew now and then
        told = [re.sub(r", in about .*", "", v.sentence) for v in (one, other)]
        assert told[0] == told[1]


def order(following: Following) -> tuple[list[Any], ...]:
    """Of the answers, and of what counts."""
    seen = following._seen["2"]
    rows = seen.paired.rows().row, seen.single.rows().row
    a = seen.answers
    columns = (a.time, a.canary, a.failed, a.first)
    return (
        *(column.tolist() for column in columns),
        *([seen.ids[r] for r in which] for which in rows),
    )


ids = st.sampled_from(["a", "bb", "c/0", "c/1", "dd", "e", "ff", "g"])
second = st.integers(0, 30)
act = st.one_of(
    st.tuples(
        st.just("record"),
        ids,
        second,
        st.integers(0, len(ARMS) - 1),
        st.sampled_from([0.1, 0.6, 0.9, None]),
    ),
    st.tuples(st.just("both"), ids, second, st.integers(0, 1), st.sampled_from([0.2, 0.7])),
    st.tuples(st.just("label"), ids, st.sampled_from([0.0, 1.0]), second),
    st.tuples(st.just("tick"), st.integers(0, 4)),
    st.tuples(st.just("back"), st.integers(1, 3)),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(act, min_size=10, max_size=60), st.booleans(), st.sampled_from([0, 2]))
@example(
    [
        ("both", "a", 0, 0, 0.2),
        ("both", "bb", 1, 0, 0.7),
        ("label", "bb", 1.0, 6),
        ("tick", 12),
        ("label", "a", 1.0, 5),
        ("tick", 1),
    ],
    True,
    0,
)
@example(
    [("both", "a", 0, 0, 0.2), ("label", "a", 1.0, 1), ("tick", 9), ("label", "a", 0.0, 8)], 1, 0
)
@example([("record", "a", 5, 0, 0.1), ("tick", 9), ("record", "a", 2, 0, 0.9), ("tick", 1)], 1, 0)
def test_in_whatever_order_things_come_the_verdicts_are_those_of_a_controller_without_a_memory(
    acts: list[tuple[Any, ...]], paired: bool, block: int
) -> None:
    platform = stage()
    guards = plan().guards
    quality = QualityGuard("brier", margin=0.1, by="country", paired=paired)
    guards = msgspec.structs.replace(guards, quality=quality)
    rollout = begin(plan(guards=guards, block=Duration.of(block * SECOND)))
    following, now = Following(platform), START
    for name, *what in [*acts, ("tick", 50)]:
        if name == "record":
            keep(platform, record(*what))
        elif name == "both":
            id, at, arm, score = what
            shadow = record(id, at + 0.5, 3 - arm, 1 - score)
            keep(platform, record(id, at, arm, score), shadow)
        elif name == "label":
            tell(platform, *what)
        else:
            now += (what[0] if name == "tick" else -what[0]) * SECOND
            carried = following.evidence(rollout, now)
            fresh = Following(platform)
            anew = fresh.evidence(rollout, now)
            assert order(following) == order(fresh)
            assert carried.keys() == anew.keys()
            for mine, its in zip(carried["2"], anew["2"], strict=True):
                same(mine, its)


def look(seen: Observations) -> list[Any]:
    a = seen.answers
    found: list[Any] = [a.time, a.canary, a.failed, a.latency, a.share, a.first]
    for kind in (seen.paired, seen.single, seen.scored, seen.alerts, seen.pairs):
        rows = kind.rows()
        found += [seen.ids[rows.row], rows.time, rows.counts, rows.groups["country"]]
        found += [rows.label, rows.champion, rows.candidate]
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ids, second, st.integers(0, 4), st.sampled_from([0.1, None])), max_size=40),
    st.lists(st.tuples(ids, st.sampled_from([0.0, 1.0]), second), max_size=20),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_what_comes_in_small_parts_is_the_evidence_that_it_is_at_once(
    told: list[tuple[Any, ...]],
    labelled: list[tuple[Any, ...]],
    size: int,
    rivals: bool,
    sticky: bool,
) -> None:
    rows = [record(*what) for what in told]
    log = pl.DataFrame(rows, schema=PREDICTIONS).sort("time", "id", maintain_order=True)
    facts = pl.DataFrame(
        [(id, label, START, START + at * SECOND) for id, label, at in labelled],
        schema=LABELS,
        orient="row",
    )
    country = logged("country", ())
    whole, parts = (
        Observations(
            "1",
            "2",
            START,
            matures_after=3 * SECOND,
            groups={"country": country},
            entity=country if sticky else None,
            rivals=["7"] if rivals else [],
        )
        for _ in range(2)
    )
    whole.add(log)
    whole.learn(facts)
    whole.settle(None, START + 20 * SECOND)
    for k in range(0, max(len(told), len(labelled)), size):
        parts.learn(facts[k : k + size])
        assert parts.add(log[k : k + size])
        parts.settle(None, START + 20 * SECOND)
        look(parts)
    for mine, its in zip(look(parts), look(whole), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("late", [2, 4])
def test_an_earlier_answer_that_comes_late_gives_a_request_to_the_version_that_gave_it(
    late: int,
) -> None:
    first, second = record("a", late, 0, 0.1), record("a", 4, 1, 0.9)
    facts = pl.DataFrame([("a", 1.0, START, START)], schema=LABELS, orient="row")
    looks = []
    for parts in ([[first, second]], [[second], [first]]):
        seen = Observations("1", "2", START, groups={"country": logged("country", ())})
        seen.learn(facts)
        for rows in parts:
            assert seen.add(pl.DataFrame(rows, schema=PREDICTIONS))
            seen.settle(None, START + 20 * SECOND)
            found = seen.single.rows()
        looks.append([found.canary, found.time, found.counts, found.champion, found.candidate])
    assert looks[0][0].tolist() == [False]
    for mine, its in zip(*looks, strict=True):
        np.testing.assert_array_equal(mine, its)


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=2))))
def test_few_and_many_are_put_into_the_same_order(keys: list[tuple[int, str]]) -> None:
    times, names = np.array([t for t, _ in keys], np.int64), np.array([i for _, i in keys], object)
    wanted = sorted(range(len(keys)), key=keys.__getitem__)
    for many in (0, len(keys) + 1):
        assert in_order(times, names, many).tolist() == wanted


def test_the_first_row_of_a_batch_that_comes_late_makes_all_be_read_anew() -> None:
    platform = stage(timedelta(0))
    rollout, following = begin(plan()), Following(platform)
    keep(platform, record("b/1", 5, 0, 0.4))
    following.evidence(rollout, START + 10 * SECOND)
    keep(platform, record("b/0", 2, 0, 0.4))
    following.evidence(rollout, START + 11 * SECOND)
    fresh = Following(platform)
    fresh.evidence(rollout, START + 11 * SECOND)
    assert order(following) == order(fresh)


def test_a_tick_without_news_reads_and_computes_nothing() -> None:
    platform = stage(timedelta(0))
    rollout, following = begin(plan()), Following(platform)
    keep(platform, *(record(f"r{i}", i / 10, i % 2, 0.4) for i in range(50)))
    first = following.evidence(rollout, START + 60 * SECOND)
    assert following.evidence(rollout, START + 61 * SECOND) is first
    before = first["2"]
    assert following.evidence(rollout, START + 62 * SECOND)["2"] is before


def test_what_is_already_known_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    platform = stage(timedelta(0))
    rollout, following = begin(plan()), Following(platform)
    given_: list[int] = []
    news = platform.log.news

    def counted(*asked: Any) -> Any:
        frame, mark = news(*asked)
        given_.append(frame.height)
        return frame, mark

    monkeypatch.setattr(platform.log, "news", counted)
    for k in range(4):
        keep(platform, *(record(f"r{k}-{i}", 10 * k + i, i % 2, 0.4) for i in range(5)))
        following.evidence(rollout, START + (10 * k + 9) * SECOND)
    assert given_ == [5, 5, 5, 5]


def test_evidence_that_comes_late_is_put_in_its_place() -> None:
    platform = stage(timedelta(0))
    rollout, following = begin(plan()), Following(platform)
    keep(platform, *(record(f"r{i:02}", i, i % 2, 0.4) for i in range(0, 20, 2)))
    following.evidence(rollout, START + 30 * SECOND)
    keep(platform, record("late", 5.5, 1, None))
    following.evidence(rollout, START + 31 * SECOND)
    answers = following._seen["2"].answers
    assert (np.diff(answers.time) > 0).all()
    assert int(np.flatnonzero(answers.failed)[0]) == 3
