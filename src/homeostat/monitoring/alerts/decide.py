"""Which alerts a window raises and resolves, and what the policy may ask of the monitors.

Harm first: a model that loses is a critical alert, and the drift found with it is its
explanation, not a second alert. Movement without harm is recorded and pages nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from homeostat.core.duration import Duration
from homeostat.core.ports import Notice
from homeostat.core.verdict import Outcome
from homeostat.monitoring import model
from homeostat.monitoring.alerts.change import change_point
from homeostat.monitoring.alerts.triage import Cause, triage
from homeostat.monitoring.model import (
    WORKERS,
    AlertEscalated,
    AlertRaised,
    AlertResolved,
    MonitorEvent,
    MonitorState,
    Silenced,
    WindowObserved,
    evolve,
)
from homeostat.monitoring.spec import MonitoringSpec

NO_TRAFFIC = 3
"""Windows without a request, in a row, after which silence is an alert."""
EXPLAIN = 3
OVERDUE = 2
"""Windows beyond the first one that is due, after which the monitors count as blind."""
EVERY = "all"
KINDS = ("quality", "drift", "data", "traffic", "monitor")
CAUSED = ("quality", "drift", "data")
"""Alerts that one cause may raise together."""
MORE = "homeostat status, homeostat history --evidence"


class Found(msgspec.Struct, frozen=True):
    """Something holds since some time (the end of the window that showed it first)."""

    sentence: str
    since: datetime


def failing(state: MonitorState) -> Found | None:
    """Live quality is beyond what is declared (`min`, `max` or `tolerance`), with its whole
    interval."""
    if state.harm_since is None or state.quality is None or not state.quality.failed:
        return None
    return Found(state.quality.sentence, state.harm_since)


def harmed(state: MonitorState) -> Found | None:
    """The model is worse than it was or may be: it fails, or lost more than is tolerated (by
    default 5 %) against the champion's own test figure, with both whole intervals."""
    found = failing(state)
    if found is not None or state.harm_since is None:
        return found
    if state.harm is not None and state.harm.shown:
        return Found(state.harm.sentence, state.harm_since)
    return None


def drifted(state: MonitorState) -> Found | None:
    """Features or scores have moved by more than the minimum effect."""
    if state.drift is None or state.drift_since is None:
        return None
    return Found(state.drift.sentence, state.drift_since)


def data_broken(state: MonitorState) -> str | None:
    """What is wrong with the data that arrive; None when nothing is known to be."""
    if state.data is None or state.data_since is None:
        return None
    return state.data.sentence


def values_broken(state: MonitorState) -> str | None:
    """What is wrong with the values that arrive, failed requests left out."""
    return None if data_broken(state) is None else model.values_broken(state.data)


def cause(state: MonitorState) -> Cause | None:
    """What has most likely changed, harmful or not; None when nothing is known to have."""
    moved = tuple(m.feature for m in state.moved if m.drifted)[:EXPLAIN]
    return triage(broken=values_broken(state), drift=state.drift, moved=moved, labels=state.labels)


def changed_at(state: MonitorState) -> datetime | None:
    """Since when requests are of the new kind: by quality where it fails, else by how far the
    features have moved. Of the windows about this version; None where no change is clear."""
    own = [w for w in state.windows if w.version == state.version]
    if harmed(state) is not None:
        return change_point(
            [
                (w.matured_until, w.quality)
                for w in own
                if w.quality is not None and w.matured_until is not None
            ]
        )
    return change_point([(w.end, w.effect) for w in own if w.effect is not None])


def notices(state: MonitorState, now: datetime) -> tuple[Notice, ...]:
    """What people have not been told yet and may be now, oldest first; record
    `AlertNotified(notice.key)` for each one that was delivered. A silence holds back what began or
    got worse, not the end of what people know of."""
    return tuple(n for n in state.notices if n.over or silence(state, _kind(n.key), now) is None)


def silence(state: MonitorState, kind: str, now: datetime) -> Silenced | None:
    """The silence that holds for alerts of a kind."""
    for which in (kind, EVERY):
        found = state.silences.get(which)
        if found is not None and found.until > now:
            return found
    return None


def _kind(key: str) -> str:
    return key.partition("@")[0]


def decide(
    state: MonitorState,
    window: WindowObserved,
    spec: MonitoringSpec,
    now: datetime,
    *,
    action: str = "retraining is considered (see `homeostat status`)",
) -> list[MonitorEvent]:
    """The alerts that `window` raises and resolves. state: before or after the window was folded
    in, the answer is the same; alerts that are open already are not raised again. action: what
    the system does about harm, for the text of the alert."""
    if state.last_end is not None and window.end < state.last_end:
        return []
    after = evolve(state, window, now)
    events: list[MonitorEvent] = []
    for found in (_quality(after, action), _data(after), _drift(after), _traffic(after, window)):
        events += found
    return [_certified(_grouped(event, after, events), after) for event in events]


def _grouped(
    event: MonitorEvent, state: MonitorState, others: Sequence[MonitorEvent]
) -> MonitorEvent:
    """One cause, one incident: an alert belongs to the one that is open, or began with it."""
    if not isinstance(event, AlertRaised) or event.kind not in CAUSED:
        return event
    open_ = [a.incident for a in state.open_alerts if a.kind in CAUSED]
    with_it = [e.key for e in others if isinstance(e, AlertRaised) and e.kind in CAUSED]
    return msgspec.structs.replace(event, incident=(open_ or with_it)[0])


def _certified(event: MonitorEvent, state: MonitorState) -> MonitorEvent:
    """How far this monitor can be trusted, beside its alert."""
    certificate = state.certificate_of(state.version)
    if not isinstance(event, AlertRaised) or certificate is None or state.certified is None:
        return event
    rate = certificate.rate(event.kind)
    if rate is None:
        return event
    told = f"this monitor: {rate.sentence}, calibrated on the {certificate.source} at "
    return msgspec.structs.replace(event, text=f"{event.text}; {told}{state.certified:%F}")


def escalations(state: MonitorState, spec: MonitoringSpec, now: datetime) -> list[MonitorEvent]:
    """Alerts that are open for longer than declared, told again."""
    if spec.escalate is None:
        return []
    return [
        AlertEscalated(a.key, "critical", f"still open after {_ago(now - a.since)}")
        for a in state.open_alerts
        if a.severity != "info" and a.raised is not None and now - a.raised >= spec.escalate
    ]


def heartbeat(
    state: MonitorState, spec: MonitoringSpec, first: datetime, now: datetime, *, looking: bool
) -> list[MonitorEvent]:
    """A monitor that has not looked is an alert itself, and so is one that will not for long: the
    clock was ahead, and windows were judged that are yet to come. first: since when there is
    something to look at. looking: some window was judged just now, so that it only has to catch
    up."""
    alert, looked = state.alert("monitor"), state.last_end or first
    overdue = now - looked - spec.window
    ahead = looked - now >= OVERDUE * spec.window
    if alert is None and ahead:
        text = f"windows were judged up to {looked:%F %R} and it is {now:%F %R}: the clock was set "
        text += "back; requests until then are not judged, and harm would go unnoticed"
        return [_raise("monitor", "critical", "the monitors are blind", text, now)]
    if alert is None and not looking and overdue >= OVERDUE * spec.window:
        text = f"no window was judged since {looked:%F %R}, {_ago(overdue)} overdue: harm would go "
        text += "unnoticed; the loop's problems are in its output and at /metrics"
        return [_raise("monitor", "critical", "the monitors are blind", text, looked)]
    if alert is not None and overdue < spec.window and not ahead:
        return [AlertResolved(alert.key, alert.kind, f"windows are judged up to {looked:%F %R}")]
    return []


def _ago(length: timedelta) -> str:
    return str(Duration.of(timedelta(minutes=length // timedelta(minutes=1))))


def _raise(kind: str, severity: str, title: str, text: str, since: datetime) -> AlertRaised:
    return AlertRaised(f"{kind}@{since:%Y-%m-%dT%H:%M:%SZ}", kind, severity, title, text, since)


def _quality(state: MonitorState, action: str) -> Iterator[MonitorEvent]:
    found, alert = harmed(state), state.alert("quality")
    if found is not None and alert is None:
        failed = state.quality is not None and state.quality.failed
        yield _raise(
            "quality",
            "critical" if failed else "warning",
            "the model is doing harm",
            f"{_loss(state, found)}; since {found.since:%F %R}; {_because(state)}; {action}; "
            f"more: {MORE}",
            found.since,
        )
    elif alert is not None and found is None and state.quality and state.quality.passed:
        # after a promotion it stays open until labels of the new version say that it is well
        yield AlertResolved(alert.key, alert.kind, state.quality.sentence)


def _loss(state: MonitorState, found: Found) -> str:
    if state.harm is None or state.harm.sentence in found.sentence:
        return found.sentence
    return f"{found.sentence}; {state.harm.sentence}"


def _because(state: MonitorState) -> str:
    found = cause(state)
    moved = [m for m in state.moved if m.drifted][:EXPLAIN]
    if found is None:
        return "no feature was seen to move: the relation to the label may have changed"
    named = ", ".join(m.sentence for m in moved)
    how = "by what their movement cost" if any(m.cost is not None for m in moved) else "most moved"
    return f"likely {found.sentence}" + (f"; {how}: {named}" if named else "")


def _drift(state: MonitorState) -> Iterator[MonitorEvent]:
    found, alert, harm = drifted(state), state.alert("drift"), harmed(state)
    explained = state.alert("quality") and not (state.quality and state.quality.passed)
    if alert is not None and harm is not None:
        yield AlertResolved(alert.key, alert.kind, "it is now part of the quality incident")
    elif found is not None and alert is None and harm is None and not explained:
        title = "traffic has moved, without harm so far"
        yield _raise("drift", "info", title, found.sentence, found.since)
    elif alert is not None and state.drift is not None and state.drift.passed:
        yield AlertResolved(alert.key, alert.kind, state.drift.sentence)


def _data(state: MonitorState) -> Iterator[MonitorEvent]:
    broken, alert, harm = data_broken(state), state.alert("data"), harmed(state)
    if broken is not None and alert is None and harm is None and state.data_since is not None:
        text = f"{broken}; nothing is trained on such data; more: {MORE}"
        yield _raise("data", "warning", "data arrive broken", text, state.data_since)
    elif alert is not None and state.data is not None and state.data.outcome is Outcome.PASS:
        yield AlertResolved(alert.key, alert.kind, state.data.sentence)


def _traffic(state: MonitorState, window: WindowObserved) -> Iterator[MonitorEvent]:
    alert = state.alert("traffic")
    if alert is None and state.empty >= NO_TRAFFIC and state.empty_since is not None:
        text = f"no request was answered since {state.empty_since:%F %R}: nothing can be judged"
        title = "there is no traffic"
        if window.down == WORKERS:
            title = "no worker is running"
            text += "; nobody would be answered: start workers with `homeostat up` or `serve`"
        severity = "critical" if window.down == WORKERS else "warning"
        yield _raise("traffic", severity, title, text, state.empty_since)
    elif alert is not None and window.rows > 0:
        yield AlertResolved(alert.key, alert.kind, f"{window.rows:,} requests in this window")
