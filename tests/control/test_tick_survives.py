"""One part that cannot be read must not stop the loop: the others act, and the problem is told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from homeostat.backends.local import reference
from homeostat.control.commands import monitors_silence
from homeostat.control.daemon import Daemon
from homeostat.control.model import ChampionChanged
from homeostat.control.platform import Platform
from homeostat.control.tick import Controller, TickReport
from homeostat.core.errors import Damaged
from homeostat.core.records import LABELS
from homeostat.core.servable import REFERENCE
from homeostat.core.version import NewVersion, Version
from homeostat.testing.models import tiny_servable
from homeostat.testing.replay import Replay

START = datetime(2026, 1, 10, tzinfo=UTC)
PROJECT = """
name: small
data: {source: rows.csv, time: at, key: id, label: {column: label, matures_after: 1d}}
training: {fit: "small:fit", split: {train: 4d, gap: 1d, test: 2d}}
"""


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """With a champion."""
    (tmp_path / "homeostat.yaml").write_text(PROJECT)
    (tmp_path / "rows.csv").write_text("id,at,label\n")
    (tmp_path / "small.py").write_text("def fit(train, params): ...\n")
    traffic = pl.DataFrame(schema={"id": pl.String, "time": pl.Datetime("us", "UTC")})
    home = tmp_path / ".homeostat"
    labels = pl.DataFrame(schema=LABELS)
    found = Replay(tmp_path, home, traffic=traffic, labels=labels, start=START).platform
    made = tiny_servable(tmp_path / "made", version="1")
    new = NewVersion("small", "run-1", made.path, made.digest, {}, {}, {})
    version = found.registry.register(new).version
    found.events.append("small", [ChampionChanged(version, None, "first")], after=0, at=START)
    return replace(found, reference=reference.read_reference)


def champion(platform: Platform) -> Version:
    return platform.registry.get("small", "1")


def test_a_reference_that_is_gone_or_broken_is_a_problem_and_the_route_is_still_published(
    platform: Platform,
) -> None:
    path = Path(champion(platform).path) / REFERENCE
    path.unlink()
    report = Controller(platform).tick()
    assert "what version 1 is compared with cannot be read" in report.problems[0]
    assert platform.plane.observed("small").generation == 1
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(Damaged, match=REFERENCE):
        reference.read_reference(champion(platform))
    shutil.rmtree(path.parent)
    assert Controller(platform).tick().problems


def test_what_people_decide_is_told_beside_what_the_loop_decides(platform: Platform) -> None:
    told: list[TickReport | str] = []
    daemon = Daemon(platform, holder="a", wall=platform.clock, tell=told.append)
    daemon.turn()
    told.clear()
    monitors_silence(platform, "quality", timedelta(hours=1), "planned", "anna")
    daemon.turn()
    daemon.turn()
    (report,) = told
    assert isinstance(report, TickReport)
    assert (report.decided, report.seq - report.since) == ((), 1)


def test_a_problem_that_stays_is_told_once_and_again_when_it_comes_back(
    platform: Platform,
) -> None:
    told: list[TickReport | str] = []
    daemon = Daemon(platform, holder="a", wall=platform.clock, tell=told.append)
    path = Path(champion(platform).path) / REFERENCE
    kept = path.read_bytes()
    path.unlink()
    for _ in range(3):
        daemon.turn()
    assert len(told) == 1
    path.write_bytes(kept)
    daemon.turn()
    assert len(told) == 1
    daemon._controller._reference = None
    path.unlink()
    reference._read.cache_clear()
    daemon.turn()
    assert len(told) == 2
