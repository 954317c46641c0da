"""The pipeline: ingest, transform, validate, train, evaluate, register.

Each stage is idempotent and is what every engine calls (`homeostat stage NAME --run ID`): what
it did is an event, what it made is content-addressed, and a stage that is recorded as done is
not done again. A process killed in the middle is simply started once more.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from homeostat.control.model import (
    BY_HAND,
    LoopEvent,
    Run,
    RunFinished,
    RunStarted,
    StageDone,
    State,
    load,
)
from homeostat.control.platform import Platform
from homeostat.control.record import settle
from homeostat.control.stages import Progress, Work
from homeostat.core.errors import BadInput, Damaged, NotFound, Refused, Unavailable
from homeostat.core.names import Stage
from homeostat.core.verdict import Outcome, Verdict


class PipelineResult(msgspec.Struct, frozen=True):
    """verdict: of the last stage that ran. version: set once the run is registered, and next: the
    command that goes on from there."""

    run: str
    verdict: Verdict
    stages: dict[Stage, Verdict]
    version: str | None = None
    next: str | None = None


def _find(platform: Platform, run: str) -> tuple[State, Run]:
    state = load(platform.events.read(platform.stream))
    if run not in state.runs:
        known = ", ".join(list(state.runs)[-3:])
        found = f"runs {known}" if known else "none yet"
        raise NotFound(f"no run {run!r}", found=found, remedy="homeostat run")
    return state, state.runs[run]


def begin(platform: Platform) -> str:
    """Record a run started by hand; -> its id."""
    now = platform.clock.now()
    after = settle(
        platform,
        lambda state: [RunStarted(f"run-{state.seq + 1}", BY_HAND, "started by hand", now)],
    )
    return f"run-{after.seq}"


def stage(
    platform: Platform, name: Stage, run: str, progress: Progress = lambda text: None
) -> PipelineResult:
    """Do one stage of a run, unless it is recorded as done. A verdict that does not pass ends the
    run: it is recorded as refused, and nothing after it is done.

    Of two processes that do the same stage at once, the first that ends is recorded and the other
    gives its result. Raises BadInput when an earlier stage has not been done (nothing is recorded
    then), and what the stage raises."""
    state, found = _find(platform, run)
    if name in found.stages:
        return _result(platform, found)
    if found.finished:
        raise Refused(
            f"{run} is finished ({found.outcome}): {found.sentence}", remedy="homeostat run"
        )
    missing = next((s for s in Stage if s not in found.stages), name)
    if list(Stage).index(missing) < list(Stage).index(name):
        raise BadInput(
            f"stage {missing} of {run} has not been done",
            remedy=f"homeostat stage {missing} --run {run}",
        )
    work = Work(platform, found, progress)
    try:
        verdict, outputs = getattr(work, name.value)()
    except (BadInput, Refused) as error:
        refused = RunFinished(run, "refused", f"{name}: {error.line()}")
        settle(platform, lambda now: _unless_done(now, name, [refused], run), state)
        raise
    done = StageDone(run, name, verdict, outputs)
    events: list[LoopEvent] = [done]
    if says_no(name, verdict):
        events.append(RunFinished(run, "refused", f"{name}: {verdict.sentence}"))
    elif name is Stage.REGISTER:
        version = outputs["version"]
        events.append(RunFinished(run, "registered", verdict.sentence, version))
    settle(platform, lambda now: _unless_done(now, name, events, run), state)
    return _result(platform, _find(platform, run)[1])


def says_no(name: Stage, verdict: Verdict) -> bool:
    """Whether a stage ends its run: only the gates insist on a pass, the others on no failure."""
    failed = verdict.outcome in (Outcome.FAIL, Outcome.ERROR)
    return failed or (name is Stage.EVALUATE and not verdict.passed)


def _unless_done(
    state: State, name: Stage, events: Sequence[LoopEvent], run: str
) -> Sequence[LoopEvent]:
    """Nothing where another process has recorded this stage, or the end of the run, before us."""
    now = state.runs.get(run)
    return [] if now is None or now.finished or name in now.stages else events


def run(
    platform: Platform,
    run: str | None = None,
    *,
    first: Stage | None = None,
    last: Stage | None = None,
    progress: Progress = lambda text: None,
) -> PipelineResult:
    """Run the pipeline (of a run that exists, to continue it), from `first` to `last`.

    Raises BadInput, Refused, Unavailable and Damaged as the stages do, the last two with how to go
    on; a verdict that says no is in the result.
    """
    run = run or begin(platform)
    stages = list(Stage)
    start = stages.index(first) if first else 0
    stop = stages.index(last) if last else len(stages) - 1
    if start > stop:
        raise BadInput(f"--from {first} comes after --to {last}")
    result = _result(platform, _find(platform, run)[1])
    for name in stages[start : stop + 1]:
        progress(f"{name}")
        try:
            result = stage(platform, name, run, progress)
        except (Unavailable, Damaged) as error:
            raise _to_go_on(error, run) from error
        if name in result.stages:
            progress(f"{name}: {result.stages[name].sentence}")
        if _find(platform, run)[1].outcome == "refused":
            break
    return result


def _to_go_on(error: Unavailable | Damaged, run: str) -> Unavailable | Damaged:
    """What was done is kept, and the rest can still be done."""
    on = f"go on with `homeostat run --run {run}`"
    remedy = f"{error.remedy}; {on}" if error.remedy else on
    return type(error)(
        error.what, path=error.path, expected=error.expected, found=error.found, remedy=remedy
    )


def _result(platform: Platform, run: Run) -> PipelineResult:
    verdicts = {name: done.verdict for name, done in run.stages.items()}
    last = list(verdicts.values())[-1] if verdicts else None
    return PipelineResult(
        run.run,
        last or Verdict("run", Outcome.INCONCLUSIVE, f"{run.run}: no stage has been done"),
        verdicts,
        run.version,
        run.version and _following(platform),
    )


def _following(platform: Platform) -> str:
    """Whoever is serving takes the version up by itself."""
    serving = platform.plane.observed(platform.stream).workers > 0
    return "homeostat status" if serving else "homeostat up"
