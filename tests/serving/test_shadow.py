"""The queue of paired scoring, without a server; `test_beside` has it under load."""

from __future__ import annotations

import asyncio
import weakref
from pathlib import Path

import numpy as np

from homeostat.serving.counters import Counters, total
from homeostat.serving.layout import Layout
from homeostat.serving.log import SegmentLog
from homeostat.serving.runtime import load
from homeostat.serving.shadow import Shadows
from homeostat.testing.models import tiny_servable


def test_what_waits_keeps_only_its_rows_and_is_counted_if_its_turn_never_comes(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path).make()
    model = load(tiny_servable(tmp_path / "model"))

    async def wait_and_close() -> bool:
        counters = Counters(layout.metrics / "0")
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        shadows = Shadows(asyncio.get_running_loop(), log, counters, lambda: 0)
        batch = np.zeros((256, 2), np.float32)
        kept = weakref.ref(batch)
        shadows.submit("m", model, "one", batch[:3])
        del batch
        freed = kept() is None
        shadows.close()
        log.close()
        return freed

    assert asyncio.run(wait_and_close())
    assert total(layout.metrics).globals["shadow_skipped"] == 3
