"""From the state of a rollout to what the data plane has to do."""

from __future__ import annotations

from homeostat.rollout.model import Phase, Rollout


def share(rollout: Rollout | None) -> tuple[float, float]:
    """-> (the candidate's percent of the traffic, the share of requests both versions score).

    (0, 0) when there is no live rollout: the champion answers alone, and after a promotion the
    champion is the former candidate. A paused rollout keeps its percent.
    """
    if rollout is None or not rollout.live:
        return 0.0, 0.0
    quality = rollout.plan.guards.quality
    in_shadow = rollout.phase is Phase.SHADOW or rollout.step < 0
    paired = in_shadow or (quality is not None and quality.paired)
    return rollout.percent, 1.0 if paired else 0.0
