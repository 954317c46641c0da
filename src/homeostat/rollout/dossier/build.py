"""From events, looks and versions to a dossier. Pure: what could not be had is said, not hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from homeostat.core.errors import NotFound
from homeostat.core.verdict import Verdict
from homeostat.core.version import MADE_OF
from homeostat.rollout import model, tell
from homeostat.rollout.dossier.model import (
    Dossier,
    Guard,
    Happened,
    Inputs,
    Look,
    Moment,
    Origin,
    Point,
)
from homeostat.rollout.dossier.why import held_by, name, plainly, spell, would_change
from homeostat.rollout.evidence import Alpha, spent
from homeostat.rollout.experiment import plan_of_one
from homeostat.rollout.guards.quality import of_slice, of_whole
from homeostat.rollout.model import Phase, Rollout
from homeostat.rollout.sufficiency import ROUTER


def build(id: str, inputs: Inputs) -> Dossier:
    """The dossier of one rollout. Raises NotFound where no event starts it."""
    events = [h for h in inputs.events if h.event.rollout == id]
    state, moments = _replay(events)
    if state is None:
        known = [h.event.rollout for h in inputs.events if isinstance(h.event, model.Started)]
        if not known:
            raise NotFound("there was no rollout yet", remedy="homeostat rollout start VERSION")
        raise NotFound(
            f"there is no rollout {id!r}",
            found=", ".join(known[-5:]),
            remedy="name a rollout or a version; homeostat history shows what there was",
        )
    looks = _looks(events, inputs.looks, state)
    state = _as_seen(state, looks)
    guards = tuple(g for c in state.candidates for g in _guards(c, looks, state))
    origins, missing = origins_of(state.candidates, state.champion, inputs)
    if not any(not look.recorded for look in looks):
        missing.append("figures between the recorded decisions: only those are drawn")
    return Dossier(
        id=id,
        model=inputs.model,
        at=inputs.at,
        outcome=str(state.phase) if not state.live else "holds",
        decision=_decision(state, moments, inputs),
        would_change=tuple(_would_change(state, guards)),
        champion=state.champion,
        candidates=state.candidates,
        began=events[0].at,
        ended=state.ended,
        largest_percent=max(m.percent for m in moments if m.kind != "rollout.promoted"),
        answered=inputs.answered,
        plan=state.plan,
        preflight=next(h.event.preflight for h in events if isinstance(h.event, model.Started)),
        guards=guards,
        timeline=tuple(moments),
        people=tuple(_people(events)),
        origins=origins,
        missing=tuple(missing),
    )


def _replay(events: Sequence[Happened]) -> tuple[Rollout | None, list[Moment]]:
    state: Rollout | None = None
    moments = []
    for h in events:
        state = model.evolve(state, h.event, h.at)
        if state is None:
            return None, []
        said = tell.sentence(h.event).removeprefix(f"{h.event.rollout}: ")
        said = said.removeprefix(f"{h.event.rollout} ")
        kind = str(type(h.event).__struct_config__.tag)
        by = str(getattr(h.event, "by", "policy"))
        moments.append(Moment(h.seq, h.at, kind, said, state.percent, by))
    return state, moments


def _looks(events: Sequence[Happened], computed: Sequence[Look], state: Rollout) -> list[Look]:
    """What was recorded and what was computed anew, in order; of the same time the record."""
    found = {(look.at, look.version): look for look in computed}
    for h in events:
        verdicts: tuple[Verdict, ...] = getattr(h.event, "verdicts", ())
        if verdicts:
            version = getattr(h.event, "candidate", "") or state.candidates[0]
            found[h.at, version] = Look(h.at, version, verdicts, recorded=True)
    return [found[key] for key in sorted(found)]


def _as_seen(state: Rollout, looks: Sequence[Look]) -> Rollout:
    """A live rollout with what its guards say now, which may be newer than the last record."""
    if not state.live:
        return state
    latest = {look.version: look.verdicts for look in looks}
    replace = msgspec.structs.replace
    trials = tuple(replace(t, verdicts=latest.get(t.version, t.verdicts)) for t in state.trials)
    own = latest.get(state.candidate, state.verdicts)
    return replace(state, verdicts=() if trials else own, trials=trials)


def _guards(version: str, looks: Sequence[Look], state: Rollout) -> Iterator[Guard]:
    """The guards of one candidate as they were last seen, each with its way there."""
    mine = [look for look in looks if look.version == version]
    if not mine:
        return
    plan = plan_of_one(state.plan, len(state.trials))
    for verdict in mine[-1].verdicts:
        alpha = spent(plan)[verdict.check]
        own = of_whole(alpha) if verdict.parts else alpha
        yield _guard(version, verdict, None, mine, own)
        for k, part in enumerate(verdict.parts, start=1):
            yield _guard(version, part, verdict.check, mine, of_slice(alpha, k))


def _guard(
    version: str, last: Verdict, whole: str | None, looks: Sequence[Look], alpha: Alpha
) -> Guard:
    """whole: the guard that `last` is a slice of."""
    path = []
    for look in looks:
        verdicts = look.verdicts
        if whole is not None:
            verdicts = tuple(p for v in verdicts if v.check == whole for p in v.parts)
        path += [_point(look, v) for v in verdicts if v.check == last.check]
    return Guard(
        version=version,
        name=whole or last.check,
        slice=None if whole is None else last.check,
        outcome=last.outcome,
        sentence=last.sentence,
        n=last.n or 0,
        figure=last.figure,
        low=last.low,
        high=last.high,
        threshold=last.threshold,
        alpha_promote=alpha.promotion,
        alpha_roll_back=alpha.rollback,
        would_change=would_change(last),
        path=tuple(path),
    )


def _point(look: Look, v: Verdict) -> Point:
    return Point(look.at, v.outcome, v.n or 0, v.figure, v.low, v.high)


def _decision(state: Rollout, moments: Sequence[Moment], inputs: Inputs) -> str:
    """The whole case in one sentence."""
    began = moments[0].at
    if state.live:
        tried = ", ".join(t.version for t in state.active) or state.candidate
        because = held_by(state, inputs.at)
        return f"Version {tried} holds at {state.percent:.4g} % because {because}."
    lasted = spell((state.ended or inputs.at) - began)
    largest = max(m.percent for m in moments if m.kind != "rollout.promoted")
    reason = plainly(state.reason, state.verdicts, state.champion)
    if state.phase is Phase.PROMOTED:
        who = "" if state.by == "policy" else f" by {state.by}"
        return (
            f"Version {state.candidate} was promoted{who} in place of version {state.champion} "
            f"after {lasted}: {reason}."
        )
    tried = ", ".join(state.candidates)
    who = "" if state.by == "policy" or state.by in reason else f" by {state.by}"
    return (
        f"Version {tried} was rolled back{who} after {lasted}, having had at most {largest:.4g} % "
        f"of the requests: {reason}."
    )


def _would_change(state: Rollout, guards: Sequence[Guard]) -> Iterator[str]:
    """Of the guards that decided: those that failed, else those that were open, else the one
    that passed most narrowly."""
    whole = [g for g in guards if g.slice is None]
    if state.phase is Phase.PROMOTED:  # of an experiment, what its winner was promoted on
        whole = [g for g in whole if g.version == state.candidate]
    if not state.live and state.by != "policy":
        word = "promotion" if state.phase is Phase.PROMOTED else "rollback"
        yield f"The {word} was {state.by}'s decision; left alone, the guards would have decided."
    named = [g for g in whole if g.outcome == "fail"] or [g for g in whole if g.outcome != "pass"]
    bounded = [g for g in whole if g.name != ROUTER]  # its split has no margin to be within
    if not named and bounded:
        named = [min(bounded, key=_to_spare)]
    several = len(state.candidates) > 1
    for g in named:
        of = f" of version {g.version}" if several else ""
        yield f"{name(g.name)}{of}: {g.would_change[:1].lower()}{g.would_change[1:]}"
    if state.phase is Phase.ROLLED_BACK and state.reason.startswith("not decided"):
        yield f"max_duration: {state.plan.max_duration} was not enough; more would have held it."


def _to_spare(guard: Guard) -> float:
    """How far below its threshold the upper bound stayed, as a share of the threshold."""
    if guard.high is None or not guard.threshold:
        return 1.0
    return (guard.threshold - guard.high) / abs(guard.threshold)


def _people(events: Sequence[Happened]) -> Iterator[str]:
    """Who had a part in it, and which."""
    for h in events:
        by = getattr(h.event, "by", "policy")
        if by == "policy":
            continue
        what = {
            model.Started: "started it",
            model.Paused: "paused it",
            model.Resumed: "resumed it",
            model.Promoted: "promoted it",
            model.RolledBack: "aborted it",
        }.get(type(h.event), "")
        if isinstance(h.event, model.Approved):
            what = f"approved {h.event.percent:.4g} %"
        yield f"{by} {what} on {h.at:%F %R} UTC"


def origins_of(
    candidates: Sequence[str], champion: str, inputs: Inputs
) -> tuple[tuple[Origin, ...], list[str]]:
    """-> what the versions were made of, and what is missing with that of which it is unknown."""
    origins = tuple(
        _origin(v, "champion" if v == champion else "candidate", inputs)
        for v in (*candidates, champion)
        if v
    )
    unknown = [o.version for o in origins if not o.parts]
    missing = list(inputs.missing)
    if unknown:
        missing.append(f"what version {', '.join(unknown)} was made of: the registry has no record")
    return origins, missing


def _origin(version: str, role: str, inputs: Inputs) -> Origin:
    found = inputs.versions.get(version)
    if found is None:
        return Origin(version, role, None, None, {})
    parts = {"model": found.digest}
    parts |= {name: found.tags[tag] for name, tag in MADE_OF if found.tags.get(tag)}
    return Origin(version, role, found.created, found.run, parts)
