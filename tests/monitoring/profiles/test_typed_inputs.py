"""Texts, truth values and whole numbers among the inputs: from the log to what monitors say."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.backends.local.prediction_log import DeltaPredictionLog
from homeostat.backends.memory.log import MemoryPredictionLog
from homeostat.core.clock import to_ns
from homeostat.core.duration import Duration
from homeostat.core.ports import PredictionLog
from homeostat.core.records import PREDICTIONS, inputs_of
from homeostat.core.servable import Field
from homeostat.core.verdict import Verdict
from homeostat.monitoring.calibration.history import Setting, from_reference
from homeostat.monitoring.calibration.measure import rates
from homeostat.monitoring.calibration.replay import Replay
from homeostat.monitoring.drift.column import look as look_at
from homeostat.monitoring.model import WindowObserved
from homeostat.monitoring.profiles.profile import look
from homeostat.monitoring.profiles.traffic import WHOLE, filled, profiles, together
from homeostat.monitoring.spec import Drift, MonitoringSpec, Quality
from homeostat.monitoring.window import Reference, observe
from homeostat.serving.layout import Layout
from homeostat.serving.segment import Name, PredictionRecord, Segment, frame

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FIELDS = (
    Field("country", "BYTES"),
    Field("amount"),
    Field("abroad", "BOOL"),
    Field("items", "INT64"),
    Field("note", "BYTES"),
    Field("rate", "FP64"),
    Field("path", "FP32", (2,)),
)
"""The last one has a shape, so nothing is compared of it."""
WATCHED = tuple(field.name for field in FIELDS[:-1])
SPEC = MonitoringSpec(
    window=Duration(hours=1),
    drift=Drift(by=("country", "abroad")),
    quality=Quality("auc", min=0.5, estimate=True),
)


def drawn(n: int, seed: int) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    return {
        "country": random.choice(["DE", "FR", "IT", ""], n, p=[0.5, 0.3, 0.18, 0.02]).tolist(),
        "amount": random.normal(size=n).astype(np.float32).tolist(),
        "abroad": (random.random(n) < 0.2).tolist(),
        "items": random.poisson(3, n).tolist(),
        "note": ["x" * int(k) + str(i) for i, k in enumerate(random.integers(5, 40, n))],
        "rate": random.random(n).tolist(),
        "path": [[0.0, 1.0]] * n,
    }


def requests(values: dict[str, list[Any]], **more: Any) -> pl.DataFrame:
    """Rows of the prediction log, spread over an hour."""
    n = len(values["country"])
    others = [name for name in values if name != "amount"]
    rows = {
        "id": [f"r{i}" for i in range(n)],
        "time": [START + HOUR * i / n for i in range(n)],
        "model": ["m"] * n,
        "version": ["1"] * n,
        "arm": ["champion"] * n,
        "probability": [1.0] * n,
        "latency": [0.001] * n,
        "features": [[x] for x in values["amount"]],
        "score": [0.25 + 0.5 * (x > 0) for x in values["amount"]],
        "error": [None] * n,
        "inputs": [json.dumps({name: values[name][i] for name in others}) for i in range(n)],
        "propensity": [1.0] * n,
    }
    return pl.DataFrame(rows | more, schema=PREDICTIONS)


def table(n: int = 6_000, seed: int = 0) -> pl.DataFrame:
    """A reference: the inputs, score and label."""
    values = drawn(n, seed)
    random, amount = np.random.default_rng(seed + 1), np.array(values["amount"])
    score = 0.25 + 0.5 * (amount > 0)
    kinds = {"amount": pl.Float32, "items": pl.Int64}
    return pl.DataFrame(values, schema_overrides=kinds).with_columns(
        score=pl.Series(score), label=pl.Series((random.random(n) < score).astype(float))
    )


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.build(table(), FIELDS, SPEC)


def window(reference: Reference, log: pl.DataFrame, **more: Any) -> WindowObserved:
    return observe(log, reference, SPEC, start=START, end=START + HOUR, version="1", **more)


def keep_in_memory(rows: pl.DataFrame, folder: Path) -> PredictionLog:
    log = MemoryPredictionLog()
    log.append("m", rows)
    return log


def keep_in_table(rows: pl.DataFrame, folder: Path) -> PredictionLog:
    layout, log = Layout(folder).make(), DeltaPredictionLog(folder)
    segment = Segment(layout.live, Name("0-test", 1), 1 << 20)
    for r in rows.iter_rows(named=True):
        raw = np.array(r["features"], "<f4").tobytes()
        row = {**r, "time": to_ns(r["time"]) // 1000, "features": raw}
        assert segment.append(frame(PredictionRecord(**row)), predictions=1)
    segment.seal(layout.sealed)
    for path in layout.sealed.glob("*.sealed"):
        log.write_segment(path)
        path.unlink()
    return log


@pytest.mark.parametrize("keep", [keep_in_memory, keep_in_table])
def test_every_input_of_the_log_is_watched_by_its_name(
    keep: Callable[[pl.DataFrame, Path], PredictionLog], reference: Reference, tmp_path: Path
) -> None:
    rows = keep(requests(drawn(900, 3)), tmp_path).read("m", START, START + HOUR)
    found = profiles(rows, reference.watched, "1", START, HOUR, 1)[WHOLE][0]
    seen = {base.name: (base, seen) for base, seen in look(reference.watched.whole, found)}
    assert list(seen) == [*WATCHED[:5], "length of note", "rate", "score"]
    assert {s.n + s.nulls for _, s in seen.values()} == {900}
    quiet = window(reference, rows)
    assert quiet.quiet
    assert quiet.estimate is not None


words = st.sampled_from(["DE", "FR", "IT", "XX", "", "YY"])
row = st.tuples(words, st.booleans(), st.integers(-2, 9), st.text("ab", max_size=3))


@settings(max_examples=20, deadline=None)
@given(st.lists(row, max_size=60), st.integers(1, 5), st.randoms(use_true_random=False))
def test_profiles_of_machines_and_minutes_add_up_to_what_the_whole_table_shows(
    reference: Reference, values: list[tuple[Any, ...]], machines: int, random: Any
) -> None:
    country, abroad, items, note = ([v[i] for v in values] for i in range(4))
    n = len(values)
    fixed = {"amount": [0.5] * n, "rate": [0.5] * n, "path": [[0.0, 1.0]] * n}
    log = requests({"country": country, "abroad": abroad, "items": items, "note": note, **fixed})
    watched, machine = reference.watched, [random.randrange(machines) for _ in range(n)]
    parts = [log.filter(pl.Series(machine, dtype=pl.Int64) == m) for m in range(machines)]
    merged = together(
        watched, [profiles(p, watched, "1", START, HOUR / 60, 60) for p in parts if p.height]
    )
    table = inputs_of(log, FIELDS).select(
        *(filled(column) for column in inputs_of(log, FIELDS)[:, :-1]), log["score"]
    )
    for name, inside in (
        (WHOLE, pl.lit(value=True)),
        ("country=DE", pl.col("country") == "DE"),
        ("abroad=true", pl.col("abroad")),
    ):
        rows = table.filter(inside)
        for base, seen in look(watched.scheme(name), merged[name]):
            exact = look_at(base, [rows[base.view.column]], rows.height)
            assert (seen.n, seen.nulls) == (exact.n, exact.nulls)
            np.testing.assert_array_equal(seen.counts, exact.counts, err_msg=base.name)
            assert getattr(seen, "unseen", 0) == getattr(exact, "unseen", 0)


def told(verdict: Verdict) -> str:
    return "; ".join(part.sentence for part in verdict.parts)


@pytest.mark.parametrize(
    ("name", "change", "moved"),
    [
        ("country", lambda v: "FR" if v == "DE" else v, "country"),
        ("abroad", lambda v: not v, "abroad"),
        ("items", lambda v: v + 4, "items"),
        ("rate", lambda v: v / 2, "rate"),
        ("note", lambda v: v + "y" * 30, "length of note"),
    ],
)
def test_an_input_that_moved_is_named_whatever_its_type(
    reference: Reference, name: str, change: Callable[[Any], Any], moved: str
) -> None:
    values = drawn(900, 4)
    values[name] = [change(v) for v in values[name]]
    found = window(reference, requests(values))
    assert found.drift.failed
    assert f"drift:{moved}" in {part.check for part in found.drift.parts}
    assert moved in {m.feature for m in found.moved if m.drifted}
    assert f"{moved} moved" in told(found.drift)


def test_unseen_categories_and_empty_texts_are_broken_data(reference: Reference) -> None:
    values = drawn(900, 5)
    values["country"] = ["XX" if i % 5 == 0 else v for i, v in enumerate(values["country"])]
    found = window(reference, requests(values)).data
    assert [part.check for part in found.parts] == ["unseen:country"]
    assert "values of country are in categories that were never seen before" in found.sentence
    values["country"] = ["" if i % 4 == 0 else v for i, v in enumerate(values["country"])]
    found = window(reference, requests(values)).data
    assert "nulls:country" in {part.check for part in found.parts}
    assert "rows have no country" in told(found)


def test_a_few_new_categories_among_many_rare_ones_are_nothing_new() -> None:
    random = np.random.default_rng(0)
    shops = [f"s{int(s)}" for s in random.geometric(0.03, 6_000)]
    made = table().with_columns(country=pl.Series(shops[:6000]))
    rare = Reference.build(made, FIELDS, msgspec.structs.replace(SPEC, drift=Drift()))
    values = drawn(900, 6) | {"country": [f"s{int(s)}" for s in random.geometric(0.03, 900)]}
    assert window(rare, requests(values)).data.passed


def test_requests_of_a_version_with_other_inputs_are_left_out(reference: Reference) -> None:
    mine, others = requests(drawn(600, 7)), drawn(300, 8)
    others["items"] = ["many"] * 300
    others["country"] = [["DE"]] * 300
    canary = requests(others, id=[f"c{i}" for i in range(300)], version=["2"] * 300)
    fewer = requests(drawn(100, 9), version=["3"] * 100, inputs=['{"country":"DE"}'] * 100)
    log = pl.concat([mine, canary, fewer])
    found = profiles(log, reference.watched, "1", START, HOUR, 1)[WHOLE][0]
    alone = profiles(mine, reference.watched, "1", START, HOUR, 1)[WHOLE][0]
    assert found.rows == 1_000
    np.testing.assert_array_equal(found.counts, alone.counts)
    np.testing.assert_array_equal(found.nulls, alone.nulls)


def test_what_movement_cost_is_told_of_texts_too(reference: Reference) -> None:
    values = drawn(900, 10)
    values["country"] = ["FR" if v == "DE" else v for v in values["country"]]
    log = requests(values)
    wrong = log.with_columns(label=1.0 - (pl.col("score") > 0.5).cast(pl.Float64))
    found = window(reference, log, matured=wrong)
    assert found.quality is not None
    assert found.quality.failed
    assert {m.feature: m.cost is not None for m in found.moved if m.drifted}["country"]


def test_a_version_whose_reference_lacks_its_texts_is_watched_in_the_rest() -> None:
    plain = MonitoringSpec(window=Duration(hours=1))
    made = Reference.build(table().drop("country", "note", "path"), FIELDS, plain)
    assert made.features == ("amount", "abroad", "items", "rate")
    rows = requests(drawn(900, 11))
    assert observe(rows, made, plain, start=START, end=START + HOUR, version="1").quiet


@pytest.mark.parametrize("n", [150, 600])
def test_calibration_draws_windows_as_they_would_be_logged(reference: Reference, n: int) -> None:
    history = from_reference(table(), reference.fields, "1", sliced=True)
    setting = Setting(reference, SPEC, "1", n, timedelta(0))
    replay, at = Replay(history, setting), np.arange(n) * 3
    rows = replay.rows.at(at)
    spread = [START + HOUR * i / n for i in range(n)]
    log = history.rows[at].with_columns(time=pl.Series(spread, dtype=PREDICTIONS["time"]))
    logged = profiles(log.select(*PREDICTIONS), reference.watched, "1", START, HOUR, 1)
    for places in ((at, at), None):
        for name, found in replay._traffic(rows, places).items():
            whole = logged[name][0]
            np.testing.assert_array_equal(found.counts, whole.counts)
            np.testing.assert_array_equal(found.nulls, whole.nulls)
    assert {rate.monitor for rate in rates(history, setting, 0.02, np.random.default_rng(0))} == {
        "drift",
        "data",
        "quality",
    }
