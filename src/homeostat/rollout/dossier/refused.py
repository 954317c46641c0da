"""The dossier of a version that was not rolled out: refused or superseded. Pure."""

from __future__ import annotations

from homeostat.rollout.dossier.build import origins_of
from homeostat.rollout.dossier.model import Dossier, Inputs, Moment, Refusal

SUPERSEDED = "superseded by"
"""How the reason of a version begins that a newer one took the place of."""


def refused(found: Refusal, inputs: Inputs) -> Dossier:
    """The dossier of one refusal; it has no guards, because nothing was tried."""
    superseded = found.reason.startswith(SUPERSEDED)
    reason, _, able = found.reason.removeprefix("preflight: ").partition(" -> ")
    remedies = [line for line in able.split("; or ") if line]
    if superseded:
        remedies = [
            "nothing was held against it: of several that wait only the newest is tried",
            f"homeostat rollout start {found.version} tries it all the same",
            "strategy: experiment tries all that wait side by side",
        ]
    against = f" against version {found.champion}" if found.champion else ""
    origins, missing = origins_of((found.version,), found.champion, inputs)
    if not superseded and found.preflight is None:
        missing.append("the figures of the pre-flight: only its sentence was recorded")
    sentence = f"version {found.version} is not rolled out: {found.reason}"
    return Dossier(
        id=f"version {found.version}",
        model=inputs.model,
        at=inputs.at,
        outcome="superseded" if superseded else "refused",
        decision=f"Version {found.version} was not rolled out{against}: {reason}.",
        would_change=tuple(remedies),
        champion=found.champion,
        candidates=(found.version,),
        began=found.at,
        ended=found.at,
        largest_percent=0.0,
        answered=None,
        plan=found.plan,
        preflight=found.preflight,
        guards=(),
        timeline=(Moment(found.seq, found.at, "candidate.dropped", sentence, 0.0, found.by),),
        people=() if found.by == "policy" else (f"{found.by} wanted it tried",),
        origins=origins,
        missing=tuple(missing),
    )
