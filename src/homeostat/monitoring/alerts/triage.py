"""What has most likely changed, from what the monitors found. Pure.

| values arrive broken | scores mean something else | also with the new mix of classes | features or score moved | cause |
| --- | --- | --- | --- | --- |
| yes | - | - | - | data break |
| no | yes | yes | - | concept: the same inputs have other outcomes |
| no | yes | no | - | label shift: another mix of the classes |
| no | no, but the share of positives has moved | - | no | label shift |
| no | no | - | yes | covariate shift: other inputs, as far as labels tell |
| no | labels do not tell | - | yes | moved, not yet explained |
| no | no, or labels do not tell | - | no | nothing |

Whether any of it costs something is another question: `decide.harmed`.
"""  # noqa: E501

from __future__ import annotations

import enum

import msgspec

from homeostat.core.verdict import Verdict
from homeostat.monitoring.quality.model import Outcomes


class Change(enum.StrEnum):
    DATA = "data break"
    CONCEPT = "concept"
    LABELS = "label shift"
    COVARIATE = "covariate shift"
    MOVED = "moved, not yet explained"


class Cause(msgspec.Struct, frozen=True):
    """change: its name. evidence: what it rests on, a sentence each, the strongest first."""

    change: Change
    evidence: tuple[str, ...]

    @property
    def sentence(self) -> str:
        return f"{_MEANS[self.change]} ({'; '.join(self.evidence)})"


_MEANS = {
    Change.DATA: "a data break: what arrives is not what was meant",
    Change.CONCEPT: "a change of concept: the same inputs have other outcomes than before",
    Change.LABELS: "a label shift: the mix of the classes has changed, not how they look",
    Change.COVARIATE: "a covariate shift: other inputs, and no sign of other outcomes for them",
    Change.MOVED: "the inputs have moved, and labels do not say yet whether outcomes have",
}


def triage(
    *, broken: str | None, drift: Verdict | None, moved: tuple[str, ...], labels: Outcomes | None
) -> Cause | None:
    """broken: what is wrong with the values that arrive. drift: the last verdict on features and
    score, moved: the names of the drifted ones. labels: what final labels say. None: nothing is
    known to have changed."""
    shifted = drift is not None and drift.failed
    inputs = f"moved: {', '.join(moved)}" if moved else "features and scores moved"
    where = inputs if shifted else "no feature was seen to move"
    if broken is not None:
        return Cause(Change.DATA, (broken,))
    if labels is not None and labels.off and labels.off_beyond_mix:
        off = f"on {labels.n:,} final labels the scores are off by {labels.error:.3f} (at least "
        off += f"{labels.error_low:.3f})"
        return Cause(Change.CONCEPT, (off, _rate(labels), where))
    if labels is not None and (labels.off or (labels.rate_moved and not shifted)):
        kept = "with that mix the scores still mean what they meant"
        return Cause(Change.LABELS, (_rate(labels), kept, where))
    if shifted and labels is not None:
        still = f"{labels.n:,} final labels do not show that the scores mean something else"
        return Cause(Change.COVARIATE, (where, still))
    return Cause(Change.MOVED, (where,)) if shifted else None


def _rate(labels: Outcomes) -> str:
    text = f"{labels.rate:.1%} positive ({labels.low:.1%} to {labels.high:.1%}), "
    return text + f"{labels.expected:.1%} on the test set"
