"""Another mix of the classes, the same features within each: what the fraud rate does when fraud
grows and fraudsters stay the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EDGE = 1e-3


def adjusted(probability: Floats, prior: float, now: float) -> Floats:
    """Probabilities (n,) that are right where the share of positives is `prior`, as they are
    where it is `now` (Bayes)."""
    p = np.clip(probability, EDGE, 1 - EDGE)
    odds = p / (1 - p) * (now / (1 - now)) / (prior / (1 - prior))
    return np.asarray(odds / (1 + odds))


def saerens(probability: Floats, prior: float, *, rounds: int = 1000) -> float:
    """The share of positives in traffic with these calibrated probabilities (n,), by expectation
    maximisation (Saerens, Latinne & Decaestecker 2002). Assumes that only the mix of the classes
    has changed; within (EDGE, 1 - EDGE)."""
    prior = min(max(prior, EDGE), 1 - EDGE)
    now = prior
    for _ in range(rounds):
        before, now = now, float(adjusted(probability, prior, now).mean())
        now = min(max(now, EDGE), 1 - EDGE)
        if abs(now - before) < 1e-7:
            break
    return now


def bbse(alert: Floats, label: Floats, alert_now: Floats) -> float | None:
    """The same share from alerts alone: (alerts now - false alarms) / (hits - false alarms)
    (black-box shift estimation, Lipton, Wang & Smola 2018). alert, label: 0/1 on the reference,
    (n,); alert_now: (m,). None where alerts tell nothing of the label."""
    if not label.any() or label.all():
        return None
    hits, false = float(alert[label > 0].mean()), float(alert[label == 0].mean())
    if hits - false < 0.05:
        return None
    return float(np.clip((alert_now.mean() - false) / (hits - false), EDGE, 1 - EDGE))
