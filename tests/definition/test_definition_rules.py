"""Cross-checks between the parts of a definition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from homeostat.definition import check

Make = Callable[[str], Path]


@pytest.mark.parametrize(
    ("old", "new", "path", "says"),
    [
        # rollout
        ("[10, 50, 100]", "[10, 50, 50, 100]", "$.rollout.steps[2]", "have to grow"),
        ("[10, 50, 100]", "[10, 50]", "$.rollout.steps[1]", "write [10, 50, 100]"),
        ("[10, 50, 100]", "[10, 100]\n  approve: [50]", "$.rollout.approve[0]", "[10, 100]"),
        ("max_duration: 30d", "max_duration: 20m", "$.rollout.max_duration", "never reach 100"),
        ("max_duration: 30d", "guards: {}", "$.rollout.guards", "never passes"),
        (
            "max_duration: 30d",
            "guards: {quality: {metric: auc}}",
            "$.rollout.guards.quality.metric",
            "`log_loss`",
        ),
        (
            "steps: [10, 50, 100]",
            "strategy: experiment\n  share: 60",
            "$.rollout.share",
            "at most 50",
        ),
        # monitoring
        ("auc, min: 0.75", "auc, max: 0.75", "$.monitoring.quality.max", "write `min`"),
        ("auc, min: 0.75", "log_loss, min: 1", "$.monitoring.quality.min", "write `max`"),
        ("auc, min: 0.75", "auc, min: 75", "$.monitoring.quality.min", "write 0.75"),
        ("monitoring:", "monitoring:\n  window: 0s", "$.monitoring.window", "no time"),
        ("monitoring:", "monitoring:\n  notify: [consol]", "$.monitoring.notify[0]", "`console`?"),
        # retraining
        ("[quality]", "[schedule]", "$.retraining.on", "add `schedule: weekly`"),
        ("[quality]", "[quality], schedule: weekly", "$.retraining.schedule", "starts nothing"),
        ("[quality]", "[quality, quality]", "$.retraining.on[1]", "listed twice"),
        ("  quality: {metric: auc, min: 0.75}", "  window: 1h", "$.retraining.on", "not monitored"),
        # gates
        ("auc: {min: 0.8}", "auc: {max: 0.8}", "$.gates.auc.max", "write `min`"),
        ("auc: {min: 0.8}", "auc: {}", "$.gates.auc", "without a bound"),
        ("auc: {min: 0.8}", "brier: {max: 2}", "$.gates.brier.max", "never gets there"),
        (
            "auc: {min: 0.8}",
            "bias: [{by: TX_FRAUD, metric: demographic_parity_difference, max: 0.1}]",
            "$.gates.bias[0].by",
            "is the label",
        ),
        # data
        ("transform:", "query: SELECT 1\n  transform:", "$.data.query", "only a database"),
        ("source: data", "source: postgresql://h/d #", "$.data.source", "needs a query"),
        ("key: TRANSACTION_ID", "key: TX_DATETIME", "$.data.key", "name two columns"),
        ("transform:", "features: [A, TX_FRAUD]\n  transform:", "$.data.features[1]", "the label"),
        ("transform:", "features: [A, A]\n  transform:", "$.data.features[1]", "listed twice"),
        ("transform:", "features: []\n  transform:", "$.data.features", "at least one"),
        (
            "transform:",
            "expect: {rows: {min: 5, max: 2}}\n  transform:",
            "$.data.expect.rows",
            "`min` is above `max`",
        ),
        (
            "transform:",
            "expect: {positives: {max: 2}}\n  transform:",
            "$.data.expect.positives.max",
            "0 to 1",
        ),
        (
            "transform:",
            "expect: {columns: {A: {min: 3, in: [a]}}}\n  transform:",
            "$.data.expect.columns.A",
            "for numbers",
        ),
        # serving
        (
            "transform: fraud:features",
            "features: [CARD]\nserving: {sticky: CARDS}",
            "$.serving.sticky",
            "did you mean `CARD`?",
        ),
        ("gates:", "serving: {replicas: {min: 3, max: 2}}\ngates:", "$.serving.replicas", "above"),
        # tuning
        (
            "  split:",
            "  tune: {maximize: acu, space: {a: {range: [0, 1]}}}\n  split:",
            "$.training.tune.maximize",
            "did you mean `auc`?",
        ),
        (
            "  split:",
            "  tune: {maximize: log_loss, space: {a: {range: [0, 1]}}}\n  split:",
            "$.training.tune.maximize",
            "write `minimize`",
        ),
        (
            "  split:",
            "  tune: {space: {a: {range: [0, 1]}}}\n  split:",
            "$.training.tune",
            "found neither",
        ),
        (
            "  split:",
            "  tune: {maximize: auc, space: {a: {log: [0, 1]}}}\n  split:",
            "$.training.tune.space.a.log",
            "above 0",
        ),
        (
            "  split:",
            "  tune: {maximize: auc, space: {a: {range: [1, 0], int: [1, 2]}}}\n  split:",
            "$.training.tune.space.a",
            "found range and int",
        ),
        ("test: 7d", "test: 0s", "$.training.split.test", "more than 0s"),
    ],
)
def test_parts_that_do_not_fit_together_are_mistakes(
    project: Make, right: str, old: str, new: str, path: str, says: str
) -> None:
    assert old in right
    found = check(project(right.replace(old, new, 1))).mistakes
    assert [m.path for m in found] == [path], [m.line() for m in found]
    assert says in found[0].line()
    assert found[0].at


@pytest.mark.parametrize(
    ("old", "new", "path", "says"),
    [
        ("gap: 7d", "gap: 1d", "$.training.split.gap", "write `gap: 7d`"),
        ("max_duration: 30d", "max_duration: 7d", "$.rollout.max_duration", "rolled back"),
        (
            "max_duration: 30d",
            "max_duration: 30d\n  no_data: abort",
            "$.rollout.no_data",
            "will be aborted",
        ),
        ("auc: {min: 0.8}", "bias: []", "$.gates", "every model that trains"),
        (
            "metric: auc, min: 0.75}",
            "metric: calibration_error, max: 0.1, estimate: true}",
            "$.monitoring.quality.estimate",
            "no effect",
        ),
        ("metric: auc, min: 0.75", "metric: auc", "$.monitoring.quality", "add `min: ...`"),
        (
            "  quality: {metric: auc, min: 0.75}\nretraining: {on: [quality]}",
            "  window: 1h",
            "$.monitoring.quality",
            "harm is never seen",
        ),
        (
            "  split:",
            "  tune: {maximize: auc, space: {a: {range: [0, 1]}}}\n  split:",
            "$.training.tune",
            "no effect",
        ),
    ],
)
def test_what_is_probably_not_meant_is_a_warning_and_no_mistake(
    project: Make, right: str, old: str, new: str, path: str, says: str
) -> None:
    assert old in right
    report = check(project(right.replace(old, new, 1)))
    assert report.mistakes == []
    assert report.project is not None
    assert [w.path for w in report.warnings] == [path]
    assert says in report.warnings[0].line()


def test_the_source_has_to_exist(project: Make, right: str) -> None:
    (found,) = check(project(right.replace("transactions.p", "transaction.p"))).mistakes
    assert "did you mean `transactions.parquet`?" in found.line()


@pytest.mark.parametrize(("key", "name"), [("key", "TRANSACTION_ID"), ("time", "TX_DATETIME")])
def test_the_source_has_to_have_the_columns_that_every_row_needs(
    project: Make, right: str, key: str, name: str
) -> None:
    (found,) = check(project(right.replace(f"{key}: {name}", f"{key}: {name[:-1]}"))).mistakes
    assert found.path == f"$.data.{key}"
    assert "found TRANSACTION_ID, TX_DATETIME, TX_FRAUD" in found.line()
    assert f"did you mean `{name}`?" in found.line()


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_the_source_has_to_be_readable(project: Make, right: str, content: bytes) -> None:
    folder = project(right)
    (folder / "data" / "transactions.parquet").write_bytes(content)
    (found,) = check(folder).mistakes
    assert found.path == "$.data.source"


def test_a_source_is_a_path_and_no_url_of_a_file(project: Make, right: str) -> None:
    text = right.replace("source: data", "source: file://data")
    assert [m.path for m in check(project(text)).mistakes] == ["$.data.source"]


def test_a_glob_that_matches_nothing_is_a_mistake(project: Make, right: str) -> None:
    (found,) = check(project(right.replace("transactions.parquet", "*.csv"))).mistakes
    assert "no file matches data/*.csv" in found.line()


def test_a_rule_that_rests_on_a_wrong_part_says_nothing(project: Make, right: str) -> None:
    # `on: [quality]` needs monitoring.quality: it is there, though it cannot be read
    text = right.replace("metric: auc, min: 0.75", "metric: auk, min: 0.75")
    (found,) = check(project(text)).mistakes
    assert found.path == "$.monitoring.quality.metric"
