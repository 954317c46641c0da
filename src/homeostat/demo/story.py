"""The two acts, as a script over the stage, and what is measured of them."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from homeostat.control.model import ChampionChanged, RunFinished, RunStarted
from homeostat.demo.stage import DELAY, RATE, START, Stage
from homeostat.monitoring.model import AlertRaised
from homeostat.rollout.model import Promoted, RolledBack, Started, Stepped

QUIET = timedelta(hours=30)
AFTERWARDS = timedelta(hours=16)
RECOVERED, BROKEN, HEALTHY = 0.80, 0.45, 0.80


class Act(enum.StrEnum):
    RECOVERY = "recovery"
    BAD_CANDIDATE = "bad-candidate"
    BOTH = "both"


class Recovery(msgspec.Struct, frozen=True):
    """Shares of frauds caught, and how long it took since the first drifted payment: in the
    world's time (hours) and of the machine (seconds)."""

    before: float
    during: float
    after: float
    alarm_hours: float
    alarm_seconds: float
    training_seconds: float
    canary_seconds: float
    promoted_hours: float
    promoted_seconds: float
    version: str

    @property
    def closed(self) -> bool:
        return self.before >= HEALTHY and self.during <= BROKEN and self.after > RECOVERED


class BadCandidate(msgspec.Struct, frozen=True):
    """largest_percent: of the traffic that the bad version ever got. decision: the dossier's
    sentence; dossier: the file that has all of it."""

    version: str
    largest_percent: float
    answered: int
    rolled_back_hours: float
    reason: str
    champion_kept: bool
    decision: str
    dossier: str

    @property
    def closed(self) -> bool:
        return self.largest_percent <= 10 and self.champion_kept


class Facts(msgspec.Struct, frozen=True):
    recovery: Recovery | None
    bad_candidate: BadCandidate | None
    requests: int
    failed: int
    seconds: float

    @property
    def closed(self) -> bool:
        """The loop really closed: every act that was played did, and no request failed."""
        acts = [a for a in (self.recovery, self.bad_candidate) if a is not None]
        return bool(acts) and all(a.closed for a in acts) and self.failed == 0


class Story:
    def __init__(self, act: Act) -> None:
        self.act = act
        self.recovery: Recovery | None = None
        self.bad_candidate: BadCandidate | None = None

    @property
    def shift(self) -> datetime | None:
        """When the world changes; None when this story leaves it as it is."""
        return None if self.act is Act.BAD_CANDIDATE else START + QUIET

    async def script(self, stage: Stage) -> None:
        if self.shift is not None:
            self.recovery = await recovery(stage, self.shift)
        else:
            await stage.until(lambda: stage.clock.now() >= START + 2 * DELAY, "some traffic")
        if self.act is not Act.RECOVERY:
            self.bad_candidate = await bad_candidate(stage)


async def recovery(stage: Stage, shift: datetime) -> Recovery:
    """Act one: the world changes, and nobody touches anything."""
    await stage.until(lambda: stage.clock.now() >= shift, "the quiet days to pass")
    stage.phase = "fraudsters changed tactics, customers their habits"
    stage.mark(shift, "the world changes")
    stage.view.line("--- fraudsters change tactics, customers spend more and later ---", shift)
    alarm, _ = await stage.event(
        AlertRaised, "an alert", shift, lambda alert: alert.severity == "critical"
    )
    stage.mark(alarm, "alert")
    stage.phase = "harm is shown; labels of the new world are gathered"
    started, _ = await stage.event(RunStarted, "a retraining", alarm)
    stage.mark(started, "retraining")
    stage.phase = "retraining"
    _, rollout = await stage.event(Started, "a rollout", started)
    canary, _ = await stage.event(Stepped, "the canary", started)
    trained, _ = await stage.event(
        RunFinished, "the end of the training", started, lambda e: e.version == rollout.candidate
    )
    stage.mark(canary, "canary 10 %")
    stage.phase = "canary 10-25-50-75-100 %"
    promoted, end = await stage.event(Promoted, "the promotion", canary)
    stage.mark(promoted, "promoted")
    stage.phase = "recovered"
    last = promoted + AFTERWARDS
    await stage.until(lambda: stage.clock.now() >= last, "the time afterwards")
    tally = stage.tally
    return Recovery(
        before=tally.detection(START, shift)[0] or 0.0,
        during=tally.detection(shift, canary)[0] or 1.0,
        after=tally.detection(promoted + timedelta(hours=1), last)[0] or 0.0,
        alarm_hours=_hours(alarm - shift),
        alarm_seconds=_machine(alarm - shift),
        training_seconds=_machine(trained - started),
        canary_seconds=_machine(canary - shift),
        promoted_hours=_hours(promoted - shift),
        promoted_seconds=_machine(promoted - shift),
        version=end.candidate,
    )


async def bad_candidate(stage: Stage) -> BadCandidate:
    """Act two: somebody trains on a table that keeps amounts in euros. Every figure measured
    offline is excellent; the payments that come in carry cents."""
    stage.phase = "a worse candidate comes"
    begun, champion = stage.clock.now(), stage.state.champion
    stage.view.line("--- somebody trains a candidate on amounts in euros ---", begun)
    definition = stage.folder / "homeostat.yaml"
    text = definition.read_text()
    definition.write_text(text.replace("fraud:features", "fraud:features_in_euros"))
    try:
        process = stage.command("run")
        await stage.until(lambda: process.poll() is not None, "the candidate's training")
        stage.complete(process, "run")
    finally:
        definition.write_text(text)
    at, started = await stage.event(Started, "its rollout", begun)
    stage.mark(at, "bad candidate")
    stage.phase = "the bad candidate is canaried"
    back, event = await stage.event(RolledBack, "the rollback", at)
    stage.mark(back, "rolled back")
    stage.phase = "rolled back"
    page = stage.folder / "dossier.html"
    decision = await explained(stage, event.rollout, page)
    stage.view.line(decision, back)
    await stage.until(lambda: stage.clock.now() >= back + DELAY, "the time afterwards")
    return BadCandidate(
        version=started.candidate,
        largest_percent=max(e.percent for t, e in stage.seen if isinstance(e, Stepped) and t >= at),
        answered=stage.tally.answered(started.candidate),
        rolled_back_hours=_hours(back - at),
        reason=event.reason,
        champion_kept=stage.state.champion == champion
        and not any(isinstance(e, ChampionChanged) and t >= at for t, e in stage.seen),
        decision=decision,
        dossier=str(page),
    )


async def explained(stage: Stage, rollout: str, page: Path) -> str:
    """Have the rollout's dossier written; -> its decision."""
    process = stage.command("rollout", "explain", rollout, "--out", str(page))
    await stage.until(lambda: process.poll() is not None, "the dossier")
    stage.complete(process, "rollout")
    decision, _ = (stage.folder / "rollout.log").read_text().splitlines()[-2:]
    return decision


def _hours(delta: timedelta) -> float:
    return delta / timedelta(hours=1)


def _machine(delta: timedelta) -> float:
    """Seconds of this machine, by the clock's compression."""
    return delta.total_seconds() / RATE
