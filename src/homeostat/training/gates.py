"""Whether a candidate may be registered. Pure: figures in, a verdict out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from numpy.typing import ArrayLike

from homeostat.core.errors import BadInput
from homeostat.core.metrics import Estimate, difference, measure
from homeostat.core.names import METRICS
from homeostat.core.verdict import Outcome, Verdict, all_of
from homeostat.training.evaluate import Evaluation
from homeostat.training.spec import AgainstChampion, Anchor, Bias, Bound, GatesSpec

CHANCE = Bound(min=0.5, confident=True)
"""Asked of the AUC when the project declares nothing that could be checked."""


class Anchored(NamedTuple):
    """The golden set: label, candidate, champion: labels and scores of its rows (n,)."""

    label: ArrayLike
    candidate: ArrayLike
    champion: ArrayLike | None = None


def decide(
    spec: GatesSpec,
    measured: Evaluation,
    *,
    label: ArrayLike,
    candidate: ArrayLike,
    champion: ArrayLike | None = None,
    anchored: Anchored | None = None,
) -> Verdict:
    """One part per declared gate; the whole is the worst of them (check="gates").

    label, candidate, champion: labels and the scores of both models on the same test rows (n,).
    Without a champion there is no comparison, hence no part for it. What could not be measured is
    INCONCLUSIVE. With nothing to check, the candidate must at least be shown to rank better than
    chance.
    """
    parts = list(_bounds(spec, measured))
    if spec.against_champion is not None and champion is not None:
        against = spec.against_champion
        gain = _gain(against, measured, label, candidate, champion)
        parts.append(_against_champion(against, gain))
    parts += [_bias(gate, measured) for gate in spec.bias]
    if spec.anchor is not None and anchored is not None:
        parts += _anchor(spec.anchor, anchored, measured)
    if not parts:
        parts = list(_bound("auc", CHANCE, measured.metrics["auc"]))
    return all_of("gates", parts)


def _bounds(spec: GatesSpec, measured: Evaluation) -> Iterator[Verdict]:
    for metric, bound in spec.bounds().items():
        yield from _bound(metric, bound, measured.metrics[metric])


def _bound(metric: str, bound: Bound, found: Estimate) -> Iterator[Verdict]:
    if bound.min is not None:
        yield _one_bound(metric, found, bound.min, at_least=True, confident=bound.confident)
    if bound.max is not None:
        yield _one_bound(metric, found, bound.max, at_least=False, confident=bound.confident)


def _one_bound(
    metric: str, found: Estimate, threshold: float, *, at_least: bool, confident: bool
) -> Verdict:
    """By the figure: it must not be beyond the threshold. Confident: nor may the interval's end;
    a figure within and an end beyond is INCONCLUSIVE."""
    asked = f"{'at least' if at_least else 'at most'} {threshold:g} is asked for"
    if found.value is None:
        return _unmeasured(metric, f"{_words(metric)} could not be measured", asked, found.n)
    end = found.low if at_least else found.high
    beyond = found.value < threshold if at_least else found.value > threshold
    end_beyond = end is None or (end < threshold if at_least else end > threshold)
    outcome, why = Outcome.PASS, asked
    if beyond:
        outcome, why = Outcome.FAIL, f"but {asked}"
    elif confident and end_beyond:
        outcome, why = Outcome.INCONCLUSIVE, f"so it is not shown that it is: {asked}"
    return Verdict(
        metric,
        outcome,
        f"{_words(metric)} is {_interval(found)} on {found.n:,} rows; {why}",
        figure=found.value,
        threshold=threshold,
        low=found.low,
        high=found.high,
        n=found.n,
    )


def _gain(
    gate: AgainstChampion,
    measured: Evaluation,
    label: ArrayLike,
    candidate: ArrayLike,
    champion: ArrayLike,
) -> Estimate:
    """How much better the candidate is; positive is better whatever the metric's direction."""
    higher = METRICS[gate.metric].higher_is_better
    a, b = (candidate, champion) if higher else (champion, candidate)
    return difference(gate.metric, label, a, b, threshold=measured.threshold, k=measured.k)


def _against_champion(gate: AgainstChampion, gain: Estimate) -> Verdict:
    words = _words(gate.metric)
    allowed = f"worse by at most {gate.margin:g} is allowed"
    if gain.value is None:
        what = f"{words} could not be compared with the champion's"
        return _unmeasured("against_champion", what, allowed, gain.n)
    worse = gain.value < -gate.margin
    how = "better" if gain.value >= 0 else "worse"
    return Verdict(
        "against_champion",
        Outcome.FAIL if worse else Outcome.PASS,
        f"{words} is {how} than the champion's by {abs(gain.value):.4f} (gain {gain.low:+.4f} to "
        f"{gain.high:+.4f}) on the same {gain.n:,} rows; {'but ' if worse else ''}{allowed}",
        figure=gain.value,
        threshold=-gate.margin,
        low=gain.low,
        high=gain.high,
        n=gain.n,
    )


def _bias(gate: Bias, measured: Evaluation) -> Verdict:
    check = f"bias.{gate.by}.{gate.metric}"
    words = f"{_words(gate.metric)} between groups of {gate.by!r}"
    asked = f"at most {gate.max:g} is allowed"
    if gate.by not in measured.bias:
        raise BadInput(
            f"no column {gate.by!r} to measure bias by",
            path="gates.bias",
            remedy="let the transform keep it",
        )
    found = measured.bias[gate.by][gate.metric]
    if found.value is None:
        what = f"{words} could not be measured (one group, or a group without the rows it needs)"
        return _unmeasured(check, what, asked, found.n)
    beyond = found.value > gate.max
    return Verdict(
        check,
        Outcome.FAIL if beyond else Outcome.PASS,
        f"{words} is {_interval(found)} on {found.n:,} rows; {'but ' if beyond else ''}{asked}",
        figure=found.value,
        threshold=gate.max,
        low=found.low,
        high=found.high,
        n=found.n,
    )


def _anchor(gate: Anchor, rows: Anchored, measured: Evaluation) -> Iterator[Verdict]:
    """Bounds on the golden set, and the comparison with the champion there."""
    threshold, k = measured.threshold, measured.k
    found = measure(rows.label, rows.candidate, threshold=threshold, k=k, only=(gate.metric,))
    bounds = list(_bound(gate.metric, Bound(gate.min, gate.max), found[gate.metric]))
    if gate.margin is not None and rows.champion is not None:
        against = AgainstChampion(gate.metric, gate.margin)
        gain = _gain(against, measured, rows.label, rows.candidate, rows.champion)
        bounds.append(_against_champion(against, gain))
    elif not bounds and found[gate.metric].value is not None:
        # the first model: there is nobody to be worse than
        text = f"{_words(gate.metric)} is {_interval(found[gate.metric])}; no champion to keep up "
        n = found[gate.metric].n
        bounds = [Verdict("anchor", Outcome.PASS, f"{text}with on {n:,} rows", n=n)]
    if not bounds:
        bounds = [_unmeasured("anchor", f"{gate.metric} could not be measured", "an anchor", 0)]
    for verdict in bounds:
        sentence = f"golden set: {verdict.sentence}"
        check = f"anchor.{verdict.check.removeprefix('anchor')}".rstrip(".")
        yield msgspec.structs.replace(verdict, check=check, sentence=sentence)


def _unmeasured(check: str, what: str, asked: str, n: int) -> Verdict:
    return Verdict(check, Outcome.INCONCLUSIVE, f"{what} on {n:,} rows; {asked}", n=n)


def _interval(found: Estimate) -> str:
    return f"{found.value:.4f} ({found.low:.4f} to {found.high:.4f})"


def _words(metric: str) -> str:
    return "AUC" if metric == "auc" else metric.replace("_", " ")
