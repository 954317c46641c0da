"""What a window's profiles show of drift, with the evidence of the windows before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from homeostat.core.verdict import Outcome
from homeostat.monitoring.drift.baseline import Column
from homeostat.monitoring.drift.betting import Bets, calibrated, wager, weigh
from homeostat.monitoring.drift.column import ColumnDrift, Seen, judge
from homeostat.monitoring.model import Evidence
from homeostat.monitoring.profiles import profile as profiles
from homeostat.monitoring.profiles.traffic import WHOLE, Traffic, Watched
from homeostat.monitoring.spec import Drift

BASELINE = 0.1
"""The part of the level that pays for the baseline's shares being a sample themselves."""

KEPT = 200
"""Columns whose evidence is remembered at most, those with the most of it: it is in the event of
every window. What is forgotten can only make false alarms rarer."""


def watch(
    watched: Watched,
    traffic: Traffic,
    spec: Drift,
    alpha: float,
    before: Sequence[Evidence] = (),
    past: Traffic | None = None,
) -> tuple[tuple[ColumnDrift, ...], tuple[Evidence, ...]]:
    """-> every column of every slice, drifted exactly when the evidence over the windows says so,
    and that evidence.

    alpha: one false alarm in 1 / alpha windows at most, on average. past: the same windows of
    former weeks, to compare with those; where it has no rows nothing can be said."""
    pairs = paired(watched, traffic, spec, past)
    share = alpha / max(1, len(pairs))
    judged: dict[str, ColumnDrift] = {}
    for name, (base, seen) in pairs.items():
        # the figures are of this window alone, the verdict is of the evidence
        found = judge(base, seen, spec, share)
        judged[name] = msgspec.structs.replace(
            found, column=name, sentence=name + found.sentence.removeprefix(base.name)
        )
    evidence = gathered(pairs, spec, alpha, before, judged)
    named = {e.feature: e for e in evidence}
    columns = tuple(_ruled(c, named.get(name)) for name, c in judged.items())
    return columns, evidence


def gathered(
    pairs: Mapping[str, tuple[Column, Seen]],
    spec: Drift,
    alpha: float,
    before: Sequence[Evidence],
    judged: Mapping[str, ColumnDrift],
) -> tuple[Evidence, ...]:
    """The evidence after a window. judged: needed of tests that were asked for by name."""
    share = alpha / max(1, len(pairs))
    won: dict[str, Bets] = {}
    for name, (base, seen) in pairs.items():
        # else nothing was learnt, and evidence stands still
        if seen.n + seen.nulls and base.n:
            bets = wager(base, seen, spec.min_effect, share * BASELINE)
            if bets is not None:
                tested = [] if spec.tests == "auto" else _tested(judged[name])
                won[name] = bets.beside(tested)
    kept = [e for e in before if e.feature in pairs and e.feature not in won]
    grown = weigh(before, won, 1 / (alpha * (1 - BASELINE)), len(pairs))
    return tuple(sorted((*grown, *kept), key=lambda e: (not e.named, -e.log))[:KEPT])


def paired(
    watched: Watched, traffic: Traffic, spec: Drift, past: Traffic | None = None
) -> Mapping[str, tuple[Column, Seen]]:
    """Every column of every slice: what it is held against, and what was seen of it."""
    found = {}
    for name in (WHOLE, *(s.name for s in watched.slices)):
        scheme = watched.scheme(name)
        if spec.weeks:
            scheme = profiles.usual(scheme, (past or {}).get(name) or scheme.empty())
        for base, seen in profiles.look(scheme, traffic.get(name) or scheme.empty()):
            found[f"{base.name} where {name}" if name else base.name] = (base, seen)
    return found


def _tested(found: ColumnDrift) -> list[float]:
    """Log e-values of the tests that were asked for by name, besides the bets."""
    return [calibrated(t.p_value) for t in found.tests if t.test not in ("ks", "tv")]


def _ruled(column: ColumnDrift, evidence: Evidence | None) -> ColumnDrift:
    if evidence is not None and evidence.named:
        odds = f"the odds are {_odds(evidence.log)} to 1 that it moved by more than the limit"
        distance = column.effect or 0.0
        text = f"{column.column} moved: distance {distance:.3f} in this window; {odds}"
        return msgspec.structs.replace(column, outcome=Outcome.FAIL, sentence=text)
    if column.drifted:
        text = f"{column.column} may be moving: distance {column.effect or 0.0:.3f}, not shown yet"
        return msgspec.structs.replace(column, outcome=Outcome.PASS, sentence=text)
    return column


def _odds(log: float) -> str:
    return f"{math.exp(log):,.0f}" if log < 14 else f"1e{log / math.log(10):.0f}"
