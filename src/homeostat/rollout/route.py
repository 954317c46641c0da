"""From the state of a rollout to what the data plane has to do."""

from __future__ import annotations

from typing import NamedTuple

from homeostat.rollout.model import Phase, Rollout


class Share(NamedTuple):
    """What one version is given. percent: of the requests that it answers; paired: the share of
    requests (0 to 1) that it and the champion both score; at: where its keys begin."""

    version: str
    percent: float
    paired: float
    at: float = 0.0


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


def shares(rollout: Rollout | None) -> tuple[Share, ...]:
    """Of every challenger that is still tried; none when there is no live rollout."""
    if rollout is None or not rollout.live:
        return ()
    percent, paired = share(rollout)
    if rollout.trials:
        return tuple(Share(t.version, percent, paired, t.at) for t in rollout.active)
    return (Share(rollout.candidate, percent, paired),)
