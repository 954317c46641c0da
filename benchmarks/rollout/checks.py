"""The simulation does what the package does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from benchmarks.rollout.cells import BAKE, BOTH
from benchmarks.rollout.guards import Ends, Says
from benchmarks.rollout.streams import Counts, Stream

from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import commands, sequences
from homeostat.rollout.decide import decide
from homeostat.rollout.evidence import harm_support
from homeostat.rollout.model import Phase, Rollout, evolve
from homeostat.rollout.spec import Guards, QualityGuard, RolloutSpec

START = datetime(2026, 1, 1, tzinfo=UTC)


def as_decided(told: Says, looks: Counts, ends: Ends) -> None:
    """The simulation decides as `decide` does: a run goes through the real state machine."""
    plan = RolloutSpec(
        bake=Duration(seconds=BAKE),
        guards=Guards(quality=QualityGuard()),
        max_duration=Duration(9999),
    )
    state: Rollout | None = None
    for event in commands.start(None, id="r", candidate="2", champion="1", plan=plan):
        state = evolve(state, event, START)
    look = 0
    while state is not None and state.live and look < len(looks):
        outcome = Outcome.FAIL if told.fails[0, look] else Outcome.INCONCLUSIVE
        if told.passes[0, look] and not told.fails[0, look]:
            outcome = Outcome.PASS
        now = START + timedelta(seconds=int(looks[look]))
        look += 1
        for event in decide(state, [Verdict("quality", outcome, "", n=look)], now):
            state = evolve(state, event, now)
    assert state is not None
    how = {Phase.PROMOTED: 1, Phase.ROLLED_BACK: -1}.get(state.phase, 0)
    assert (how, look) == (ends.how[0], ends.look[0]), "the simulation decides otherwise"


def as_judged(seen: Stream, metric: str, margin: float, told: Says, looks: Counts) -> None:
    """Its guards say what `sequences.mean` does."""
    for look in range(4, len(looks), max(len(looks) // 6, 1)):
        n = int(looks[look])
        bounds = sequences.mean(
            seen.harm[0, :n], harm_support(metric), alpha=BOTH, label=seen.positive[0, :n]
        )
        says = (told.passes[0, look], told.fails[0, look])
        assert says == (bounds.high < margin, bounds.low > 0), "the guards say otherwise"
