"""The champion's monitors measured on its own log, and the certificate used from then on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from homeostat.cli import render
from homeostat.control.calibrate import calibrate
from homeostat.control.commands import monitors_silence
from homeostat.control.history import history
from homeostat.control.record import record
from homeostat.control.status import status
from homeostat.control.tick import Controller
from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput, Refused
from homeostat.monitoring.model import AlertRaised
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import STEP, World


def quiet_world(steps: int) -> World:
    world = World(3)
    world.install(Skill(0, GOOD))
    controller = Controller(world.platform)
    for _ in range(steps):
        world.traffic()
        world.pass_time(STEP)
        world.deliver_labels()
        controller.tick()
    return world


@pytest.mark.slow
def test_a_champion_is_measured_on_its_quiet_log_and_the_certificate_is_kept() -> None:
    world = quiet_world(135)
    found = calibrate(world.platform, months=0.03, episodes=1, by="anna")
    assert (found.version, found.source, found.by) == ("1", "log", "anna")
    assert found.rows > 100
    assert {r.monitor for r in found.rates} == {"drift", "data", "quality"}
    kept = status(world.platform)
    assert kept.certificate == found
    assert "monitors of version 1 measured on its log" in history(world.platform)[-1].sentence


def test_without_a_history_the_reference_is_replayed_and_without_a_champion_nothing() -> None:
    with pytest.raises(Refused, match="no champion"):
        calibrate(World(3).platform)
    world = quiet_world(2)
    found = calibrate(world.platform, months=0.02, episodes=1, rows=50)
    assert (found.source, found.rows) == ("reference", 50)
    # no alarm in half a day of replay is not "no false alarms"
    drift = found.rates[0]
    assert f"drift 0 (0 to {drift.high:.2g})" in render.status(status(world.platform))
    with pytest.raises(BadInput, match="no quiet window"):
        calibrate(world.platform, on="log")
    with pytest.raises(BadInput, match="nothing to replay"):
        calibrate(world.platform, months=0)


def test_silences_are_recorded_shown_and_end() -> None:
    world = quiet_world(2)
    hours = timedelta(hours=2)
    monitors_silence(world.platform, "quality", hours, "planned work", "anna")
    (found,) = status(world.platform).silences
    assert "quality alerts are silenced by anna" in found.sentence
    assert "planned work" in history(world.platform)[-1].sentence
    monitors_silence(world.platform, "quality", timedelta(0), "", "anna")
    assert status(world.platform).silences == ()
    with pytest.raises(Refused, match="not silenced"):
        monitors_silence(world.platform, "quality", timedelta(0), "", "anna")
    with pytest.raises(BadInput, match="a reason"):
        monitors_silence(world.platform, "quality", hours, " ", "anna")
    with pytest.raises(BadInput, match="no such alert"):
        monitors_silence(world.platform, "qualty", hours, "x", "anna")


def test_whoever_is_woken_reads_the_alerts_first_a_thing_a_line() -> None:
    world = quiet_world(3)
    text = (
        "auc 0.61 is below the floor of 0.7; likely a covariate shift (moved: amount; 900 final "
        "labels do not say more); no retraining yet: cooldown of 6h; more: homeostat status"
    )
    now = world.clock.now()
    quality = AlertRaised("quality@1", "quality", "critical", "the model is doing harm", text, now)
    drift = AlertRaised("drift@1", "drift", "info", "traffic has moved", "1 column moved", now)
    record(world.platform, [quality, drift])
    monitors_silence(world.platform, "quality", Duration(hours=2), "planned", "anna")
    lines = render.status(status(world.platform)).splitlines()
    assert lines[1].startswith("silence     quality alerts are silenced by anna until")
    assert "critical quality" in lines[2]
    assert lines[2].endswith(": the model is doing harm")
    assert "silenced until" in lines[2]
    assert [line.strip() for line in lines[3:6]] == [
        "auc 0.61 is below the floor of 0.7",
        "likely a covariate shift (moved: amount; 900 final labels do not say more)",
        "no retraining yet: cooldown of 6h",
    ]
    assert lines[6].startswith("noted       info drift")  # nobody was woken by it
    assert lines[8].startswith("champion")
