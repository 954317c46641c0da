"""The real loop in a synthetic world: what moves without harm is left alone, what harms without
moving is found from labels, and either is called by its name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from homeostat.control.history import history
from homeostat.control.model import LoopEvent, RetrainingRefused, RunStarted
from homeostat.control.status import status
from homeostat.control.tick import Controller
from homeostat.core.events import decode
from homeostat.monitoring.alerts.triage import Change
from homeostat.monitoring.model import AlertRaised
from homeostat.testing.simulate import models
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import MODEL, STEP, World

Rows = tuple[NDArray[np.float32], NDArray[np.float64]]
QUIET = 30
AFTER = 60
"""Steps of ten minutes."""


class Scripted(World):
    """Traffic as told, instead of drawn; nothing fails."""

    def __init__(self, bend: Callable[[Rows], Rows]) -> None:
        super().__init__(3)
        self.bend, self.bent = bend, False
        self.controller = Controller(self.platform)

    def traffic(self) -> None:
        plain = models.requests

        def requests(rng: np.random.Generator, n: int, regime: int) -> Rows:
            rows = plain(rng, n, regime)
            return self.bend(rows) if self.bent else rows

        models.requests = requests
        try:
            super().traffic()
        finally:
            models.requests = plain

    def steps(self, n: int) -> None:
        for _ in range(n):
            self.traffic()
            self.pass_time(STEP)
            self.deliver_labels()
            assert self.controller.tick().problems == ()

    def told(self) -> list[LoopEvent]:
        return [decode(r, LoopEvent) for r in self.events.read(MODEL)]


def play(bend: Callable[[Rows], Rows]) -> Scripted:
    world = Scripted(bend)
    world.install(Skill(0, GOOD))
    world.steps(QUIET)
    assert not [e for e in world.told() if isinstance(e, AlertRaised | RetrainingRefused)]
    world.bent = True
    world.steps(AFTER)
    return world


def noise_moves(rows: Rows) -> Rows:
    features, label = rows
    features[:, 2] += 2.0
    return features, label


def labels_swap(rows: Rows) -> Rows:
    features, label = rows
    return features, 1.0 - label


def values_vanish(rows: Rows) -> Rows:
    features, label = rows
    features[::2, 2] = np.nan
    return features, 1.0 - label


def test_drift_that_moves_features_and_costs_nothing_brings_no_retraining() -> None:
    world = play(noise_moves)
    told = world.told()
    alerts = [e for e in told if isinstance(e, AlertRaised)]
    assert [(a.kind, a.severity) for a in alerts] == [("drift", "info")]
    assert not [e for e in told if isinstance(e, RetrainingRefused)]
    assert not [e for e in told if isinstance(e, RunStarted) and e.trigger != "by hand"]
    assert world.mailbox.notices == []
    found = status(world.platform).retraining
    assert found.cause is not None
    assert found.cause.startswith("a covariate shift")
    assert "noise" in found.cause
    assert found.wanted is None


def test_swapped_labels_move_no_feature_and_are_found_and_called_a_change_of_concept() -> None:
    world = play(labels_swap)
    told = world.told()
    started = [e for e in told if isinstance(e, RunStarted) and e.trigger == "quality"]
    assert started, "\n".join(line.sentence for line in history(world.platform))
    assert started[0].cause.startswith("a change of concept")
    assert "no feature was seen to move" in started[0].cause
    (alert,) = [e for e in told if isinstance(e, AlertRaised) and e.severity == "critical"]
    assert "likely a change of concept" in alert.text
    assert not [e for e in told if isinstance(e, AlertRaised) and e.kind == "drift"]
    changed = world.clock.at - AFTER * STEP
    assert alert.since - changed <= timedelta(hours=3)


def test_values_that_vanish_are_a_data_break_and_nothing_is_trained_on_them() -> None:
    world = play(values_vanish)
    told = world.told()
    assert not [e for e in told if isinstance(e, RunStarted) and e.trigger != "by hand"]
    refused = [e for e in told if isinstance(e, RetrainingRefused)]
    assert refused
    assert all("the data are broken" in e.reason for e in refused)
    found = status(world.platform).retraining
    assert found.cause is not None
    assert found.cause.startswith("a data break")


@pytest.mark.parametrize("change", list(Change))
def test_every_change_has_words(change: Change) -> None:
    from homeostat.monitoring.alerts.triage import Cause

    assert Cause(change, ("why",)).sentence.endswith("(why)")
