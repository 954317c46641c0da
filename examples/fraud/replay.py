"""July to September of the benchmark as traffic through the loop, in compressed time.

python examples/fraud/replay.py [--picture FILE.svg]

Twice: the file as it stands, where the right thing to do is nothing, and with a drift put in
(`inject.py`), where the loop has to notice, retrain and recover. Labels come 7 days late.
The same control, monitoring, rollout and training code as in production; see
`homeostat.testing.replay`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fraud
import msgspec
import polars as pl
from inject import inject
from sklearn.metrics import average_precision_score
from source import ABSENT, shared_file, transactions

from homeostat.control.history import quiet, sentence
from homeostat.control.model import LoopEvent, RunStarted
from homeostat.core.events import decode
from homeostat.core.records import TIME
from homeostat.definition import load
from homeostat.demo.picture import Mark, draw
from homeostat.monitoring.model import AlertRaised, WindowObserved
from homeostat.rollout.model import Promoted, RolledBack
from homeostat.testing.replay import Replay
from homeostat.training.export import score_servable

START = datetime(2018, 7, 1, tzinfo=UTC)
SHIFT = datetime(2018, 7, 23, tzinfo=UTC)
END = datetime(2018, 9, 5, tzinfo=UTC)
DELAY = timedelta(days=fraud.DELAY)
WEEK = timedelta(days=7)
SMOOTH = timedelta(days=3)
STEP = timedelta(hours=6)
SEED = 7
# what is promised (see the issue this came from): a week may be this much worse than frozen
WORSE, PROMOTIONS, RECOVERED = 0.02, 2, 2 / 3
PROJECT = Path(__file__).parent


@dataclass
class Outcome:
    """weeks: start, rows, frauds, loop and frozen average precision. days: end of a day (`time`),
    average precision of the loop over the SMOOTH before it. events: (time, event)."""

    weeks: pl.DataFrame
    days: pl.DataFrame
    events: list[tuple[datetime, LoopEvent]]
    answers: pl.DataFrame
    seconds: float
    marks: list[Mark] = field(default_factory=list)

    def first(self, kind: type[LoopEvent], since: datetime = START) -> datetime | None:
        found = (at for at, e in self.events if isinstance(e, kind) and at >= since)
        return next(found, None)

    def alarms(self) -> list[datetime]:
        return [
            at for at, e in self.events if isinstance(e, AlertRaised) and e.severity == "critical"
        ]

    def promotions(self) -> list[datetime]:
        return [at for at, e in self.events if isinstance(e, Promoted)]


def play(raw: pl.DataFrame, folder: Path) -> Outcome:
    """Replay `raw` from START on; the model of START is also kept frozen beside the loop."""
    begun = time.perf_counter()
    folder.mkdir(parents=True)
    source = folder / "transactions.parquet"
    raw.write_parquet(source)
    declared = load(PROJECT)
    data = msgspec.structs.replace(declared.data, source=str(source))
    utc = pl.col("TX_DATETIME").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    table = fraud.features(raw.with_columns(utc))
    ids = pl.col("TRANSACTION_ID").cast(pl.String).alias("id")
    at = pl.col("TX_DATETIME")
    traffic = table.filter(at >= START, at < END).select(
        ids, at.alias("time"), pl.col(fraud.FEATURES)
    )
    labels = table.select(
        ids,
        pl.col("TX_FRAUD").cast(pl.Float64).alias("label"),
        at.alias("time"),
        (at + DELAY).alias("known"),
    ).filter(pl.col("time") >= START - DELAY)
    loop = Replay(
        PROJECT,
        folder / ".homeostat",
        project=msgspec.structs.replace(declared, data=data),
        traffic=traffic,
        labels=labels,
        start=START,
        progress=note,
    )
    frozen = Path(loop.platform.registry.get("card-fraud", loop.train_first()).path)
    answers = loop.run(END, STEP).select("id", "time", "version", "score")
    scored = traffic.with_columns(frozen=pl.Series(score_servable(frozen, traffic)))
    joined = answers.join(scored.select("id", "frozen"), on="id").join(
        labels.select("id", "label"), on="id"
    )
    records = loop.platform.events.read(loop.platform.stream)
    events = [(r.at, decode(r, LoopEvent)) for r in records]
    return Outcome(by_week(joined), by_day(joined), events, answers, time.perf_counter() - begun)


def by_week(rows: pl.DataFrame) -> pl.DataFrame:
    found, since = [], START
    while since < END:
        week = rows.filter(pl.col("time") >= since, pl.col("time") < since + WEEK)
        label = week["label"].to_numpy()
        loop, frozen = (
            float(average_precision_score(label, week[name].to_numpy()))
            for name in ("score", "frozen")
        )
        found.append((since, week.height, int(label.sum()), loop, frozen))
        since += WEEK
    schema = ["week", "rows", "frauds", "loop", "frozen"]
    return pl.DataFrame(found, schema=schema, orient="row")


def by_day(rows: pl.DataFrame) -> pl.DataFrame:
    found, until = [], START + SMOOTH
    while until <= END:
        part = rows.filter(pl.col("time") >= until - SMOOTH, pl.col("time") < until)
        figure = average_precision_score(part["label"].to_numpy(), part["score"].to_numpy())
        found.append((until, float(figure)))
        until += timedelta(days=1)
    schema = {"time": TIME, "detection": pl.Float64()}
    return pl.DataFrame(found, schema=schema, orient="row")


def note(text: str) -> None:
    if sys.stderr.isatty():
        print(f"  {text}", file=sys.stderr)


def tell(title: str, found: Outcome) -> None:
    print(f"\n{title} ({found.seconds:.0f} s)")
    print(f"  {'week of':10}{'rows':>9}{'frauds':>8}{'loop':>8}{'frozen':>8}   average precision")
    for week, rows, frauds, loop, frozen in found.weeks.iter_rows():
        bar = "#" * round(40 * loop)
        print(f"  {week:%d %b}    {rows:>9,}{frauds:>8}{loop:>8.3f}{frozen:>8.3f}   {bar}")
    for at, event in found.events:
        if at > START and not quiet(event):
            print(f"  {at:%d %b %H:%M}  {sentence(event)[:140]}")


def check_clean(found: Outcome) -> list[str]:
    """What is not as promised on the file as it stands."""
    wrong = []
    if found.alarms():
        wrong.append(f"{len(found.alarms())} false alarms")
    if len(found.promotions()) > PROMOTIONS:
        wrong.append(f"{len(found.promotions())} promotions")
    worst = (found.weeks["frozen"] - found.weeks["loop"]).max()
    if worst > WORSE:
        wrong.append(f"a week is worse than frozen by {worst:.3f}")
    return wrong


def check_drifted(found: Outcome, clean: Outcome) -> list[str]:
    """What is not as promised with the drift: the alarm in time, the loss recovered."""
    wrong, known = [], SHIFT + DELAY
    alarms = found.alarms()
    if not alarms or not known < alarms[0] <= known + WEEK:
        wrong.append(f"the first alarm is at {alarms[:1]}")
    promoted = found.promotions()
    if not promoted:
        return [*wrong, "nothing was promoted"]
    share = recovered(found, clean, promoted[0])
    if share < RECOVERED:
        wrong.append(f"only {share:.0%} of the loss is recovered")
    return wrong


def recovered(found: Outcome, clean: Outcome, promoted: datetime) -> float:
    """The share of the loss of average precision (frozen model, against the clean file) that is
    won back in the whole weeks after the promotion."""
    both = found.weeks.join(clean.weeks.select("week", before="frozen"), on="week")
    after = both.filter(pl.col("week") >= promoted, pl.col("rows") > 10_000)
    loss = (after["before"] - after["frozen"]).mean()
    gain = (after["loop"] - after["frozen"]).mean()
    assert isinstance(loss, float)
    assert isinstance(gain, float)
    return gain / loss


def picture(found: Outcome, path: Path) -> None:
    """The drifted replay, as the demo draws itself."""
    marks = [Mark(SHIFT, "tactics change"), *(Mark(at, "alert") for at in found.alarms()[:1])]
    started = found.first(RunStarted, SHIFT)
    marks += [Mark(started, "retraining")] if started else []
    marks += [Mark(at, "promoted") for at in found.promotions()]
    marks += [Mark(at, "rolled back") for at, e in found.events if isinstance(e, RolledBack)]
    drift = [
        (e.end, e.largest_effect or 0.0) for _, e in found.events if isinstance(e, WindowObserved)
    ]
    daily = (
        found.answers.with_columns(pl.col("time").dt.truncate("1d"))
        .group_by("time", "version")
        .len("n")
        .with_columns(percent=100 * pl.col("n") / pl.col("n").sum().over("time"))
        .sort("time", "version")
    )
    draw(
        path,
        title="A published benchmark with a drift put in: the loop recovers it",
        subtitle="Fraud Detection Handbook, July to September 2018; labels come 7 days late",
        detection=found.days,
        drift=pl.DataFrame(drift, schema={"time": TIME, "effect": pl.Float64}, orient="row"),
        traffic=daily.select("time", "version", "percent"),
        marks=sorted(marks),
        floor=0.6,
        measure="average precision",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path, default=Path("fraud-replay.svg"))
    wanted = parser.parse_args()
    path = shared_file()
    if path is None:
        print(f"skipped: {ABSENT}", file=sys.stderr)
        return 0
    raw = transactions(path)
    with tempfile.TemporaryDirectory(prefix="homeostat-fraud-") as folder:
        clean = play(raw, Path(folder) / "clean")
        tell("The file as it stands", clean)
        drifted = play(inject(raw, SHIFT.replace(tzinfo=None), SEED), Path(folder) / "drifted")
        tell(f"Fraudsters change tactics on {SHIFT:%d %B}", drifted)
    picture(drifted, wanted.picture)
    print(f"\npicture: {wanted.picture}")
    wrong = [f"clean: {w}" for w in check_clean(clean)]
    wrong += [f"drifted: {w}" for w in check_drifted(drifted, clean)]
    if promoted := drifted.promotions():
        share = recovered(drifted, clean, promoted[0])
        print(f"recovered {share:.0%} of the loss; alarm {drifted.alarms()[0] - SHIFT} after the")
        print(f"change (labels take 7 days), promoted {promoted[0] - SHIFT} after it")
    for line in wrong:
        print(f"not as promised: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
