"""What the monitors remember: the events they record, and the state folded from them."""

from __future__ import annotations

from datetime import datetime

import msgspec

from homeostat.core.events import Event
from homeostat.core.ports import RESOLVED, Notice
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.calibration.certificate import Calibrated
from homeostat.monitoring.quality.estimate.model import Estimated
from homeostat.monitoring.quality.model import Harm, Outcomes

KEPT = 200
"""Windows whose figures the state keeps."""
KEPT_INCIDENTS = 50
UNSENT = 50
"""Notices that wait at most; the oldest is dropped, its alert stays open."""
CONTROLLER, WORKERS = "controller", "workers"
"""What may have been down in a window without a request."""
FAILED_REQUESTS = "errors"
"""The part of a data verdict that is about requests that failed, not about values."""


class Moved(msgspec.Struct, frozen=True):
    """A feature (or `score`) in one window. effect: KS distance or total variation; low: its
    lower bound. cost: how much more the mean squared error of the score would be had only this
    feature moved (Kitagawa 1955), on the window's final labels; where harm was found."""

    feature: str
    effect: float | None
    low: float | None
    psi: float | None
    drifted: bool
    cost: float | None = None

    @property
    def sentence(self) -> str:
        text = f"{self.feature} by {self.effect or self.psi or 0:.2f}"
        return text if self.cost is None else f"{text} ({self.cost:+.4f} of squared error)"


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """That one feature has moved, after a window (`monitoring.drift.betting`). log: natural
    logarithm of its evidence. bets: those that have gained most so far, each with the logarithm
    of its gain. named: it has been called drifted, and that is not over."""

    feature: str
    log: float
    bets: tuple[tuple[int, float], ...] = ()
    named: bool = False


class WindowObserved(Event, frozen=True, tag="monitor.window"):
    """One closed window [start, end) of one model's traffic, answered by champion and canary.

    version: the champion that it is compared with. rows: requests, errors: those that failed.
    moved: the most moved features, at most ten; where harm was found, those that moved beyond
    doubt by what they cost, first. largest_effect: over all of them, of the whole
    traffic. alpha: what the window was allowed to spend on false alarms. estimate: what quality
    may be, without labels; it decides nothing. labels: what final labels say of the scores.
    matured_until: the end of the event time that quality and labels are about. evidence: of the
    features that may have moved, over the windows so far. down: of a window without a request,
    what was not running: the `controller` (nobody was there to say whether workers were), the
    `workers`; empty: both were, and nobody asked. joint: of all features together, where that is
    declared; where it fails, `drift` fails too."""

    start: datetime
    end: datetime
    version: str
    rows: int
    errors: int
    drift: Verdict
    data: Verdict
    quality: Verdict | None = None
    harm: Harm | None = None
    moved: tuple[Moved, ...] = ()
    largest_effect: float | None = None
    alpha: float = 0.05
    estimate: Estimated | None = None
    labels: Outcomes | None = None
    matured_until: datetime | None = None
    evidence: tuple[Evidence, ...] = ()
    down: str = ""
    joint: Verdict | None = None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Harm first."""
        found = (self.quality, self.drift, self.joint, self.data)
        return tuple(v for v in found if v is not None)

    @property
    def quiet(self) -> bool:
        """Nothing that a person would want to read."""
        return not any(v.failed for v in self.verdicts) and not (self.harm and self.harm.shown)

    @property
    def sentence(self) -> str:
        told = [v.sentence for v in self.verdicts if v.failed] or [self.drift.sentence]
        return f"window to {self.end:%F %R} ({self.rows:,} requests): {'; '.join(told)}"


class AlertRaised(Event, frozen=True, tag="alert.raised"):
    """key: of this alert. kind: quality, drift, data, traffic or monitor; one of each is open at
    most. severity: critical, warning, or info (recorded, nobody is paged). since: the first sign.
    incident: the key of the first alert of the same cause; empty: its own."""

    key: str
    kind: str
    severity: str
    title: str
    text: str
    since: datetime
    incident: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.title}: {self.text}"


class AlertEscalated(Event, frozen=True, tag="alert.escalated"):
    """An alert was open for too long, and is told again."""

    key: str
    severity: str
    text: str

    @property
    def sentence(self) -> str:
        return f"alert {self.key} escalated to {self.severity}: {self.text}"


class Silenced(Event, frozen=True, tag="alert.silenced"):
    """Nobody is told of alerts of this kind (`all`: of any) until then. They are still recorded,
    and one that is open when the silence ends is told. until: in the past to end it."""

    kind: str
    until: datetime
    reason: str
    by: str

    @property
    def sentence(self) -> str:
        return (
            f"{self.kind} alerts are silenced by {self.by} until {self.until:%F %R}: {self.reason}"
        )


class AlertResolved(Event, frozen=True, tag="alert.resolved"):
    key: str
    kind: str
    text: str

    @property
    def sentence(self) -> str:
        return f"{self.kind} alert is over: {self.text}"


class AlertNotified(Event, frozen=True, tag="alert.notified"):
    """The notice with this key was delivered."""

    key: str

    @property
    def sentence(self) -> str:
        what = "the end of alert" if self.key.endswith(RESOLVED) else "alert"
        return f"told people of {what} {self.key.removesuffix(RESOLVED)}"


MonitorEvent = (
    WindowObserved
    | AlertRaised
    | AlertResolved
    | AlertEscalated
    | AlertNotified
    | Silenced
    | Calibrated
)
UNION = MonitorEvent


class Alert(msgspec.Struct, frozen=True):
    """An alert that is open. told: a notice of it was delivered. incident: the key of the first
    alert of the same cause. raised: when it was, or was escalated last."""

    key: str
    kind: str
    severity: str
    title: str
    sentence: str
    since: datetime
    told: bool = False
    incident: str = ""
    raised: datetime | None = None


class Figures(msgspec.Struct, frozen=True):
    """One window in the state's memory. version: whom it is about. matured_until: the end of the
    event time of `quality`. quiet: no monitor found anything."""

    end: datetime
    rows: int
    effect: float | None
    drifted: bool
    quality: float | None
    matured_until: datetime | None = None
    version: str = ""
    quiet: bool = True


class Period(msgspec.Struct, frozen=True):
    """From the start of the first window to the end of the last one."""

    start: datetime
    end: datetime


class MonitorState(msgspec.Struct, frozen=True):
    """version: whom the last window was about. drift, data, quality: the last verdicts that were
    not inconclusive, on this version (the last one at all, if none was). *_since: the end of the
    first window that failed. empty: windows without traffic in a row, those left out in which the
    loop itself was down: whether there was any is not known. notices: not yet delivered.
    windows: the last KEPT, oldest first. estimate: the last window's guess at quality.
    labels: the last evidence of final labels on this version. incidents: periods in which broken
    values arrived, the last KEPT_INCIDENTS, oldest first. certificate: of the last calibration,
    certified: when it was made. silences: by kind of alert."""

    last_end: datetime | None = None
    version: str | None = None
    drift: Verdict | None = None
    data: Verdict | None = None
    quality: Verdict | None = None
    harm: Harm | None = None
    drift_since: datetime | None = None
    data_since: datetime | None = None
    harm_since: datetime | None = None
    moved: tuple[Moved, ...] = ()
    empty: int = 0
    empty_since: datetime | None = None
    open_alerts: tuple[Alert, ...] = ()
    notices: tuple[Notice, ...] = ()
    windows: tuple[Figures, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    estimate: Estimated | None = None
    labels: Outcomes | None = None
    incidents: tuple[Period, ...] = ()
    certificate: Calibrated | None = None
    certified: datetime | None = None
    silences: dict[str, Silenced] = {}

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Harm first."""
        return tuple(v for v in (self.quality, self.drift, self.data) if v is not None)

    def certificate_of(self, version: str | None) -> Calibrated | None:
        """Monitors are calibrated for one version, and say nothing of another's."""
        found = self.certificate
        return found if found is not None and found.version == version else None

    def alert(self, kind: str) -> Alert | None:
        return next((a for a in self.open_alerts if a.kind == kind), None)


def evolve(state: MonitorState, event: MonitorEvent, at: datetime) -> MonitorState:
    """The state after an event. A window that was seen, and an alert or notice that is there (or
    gone) already, change nothing."""
    match event:
        case WindowObserved():
            return _window(state, event)
        case AlertRaised():
            return _raised(state, event, at)
        case AlertResolved():
            return _resolved(state, event, at)
        case AlertNotified():
            return _notified(state, event)
        case AlertEscalated():
            return _escalated(state, event, at)
        case Silenced():
            return msgspec.structs.replace(state, silences={**state.silences, event.kind: event})
        case Calibrated():
            return msgspec.structs.replace(state, certificate=event, certified=at)


def _window(state: MonitorState, window: WindowObserved) -> MonitorState:
    if state.last_end is not None and window.end <= state.last_end:
        return state
    if state.version != window.version:
        # what was found of another version says nothing about this one
        state = msgspec.structs.replace(
            state,
            version=window.version,
            drift=None,
            quality=None,
            harm=None,
            drift_since=None,
            harm_since=None,
            moved=(),
            labels=None,
            evidence=(),
        )
    quality = _latest(state.quality, window.quality)
    harm = window.harm if window.harm is not None else state.harm
    harmed = (quality is not None and quality.failed) or (harm is not None and harm.shown)
    drift = _latest(state.drift, window.drift)
    data = _latest(state.data, window.data)
    empty = state.empty + (window.down != CONTROLLER) if window.rows == 0 else 0
    figures = Figures(
        window.end,
        window.rows,
        window.largest_effect,
        window.drift.failed,
        window.quality.figure if window.quality else None,
        window.matured_until,
        window.version,
        window.quiet,
    )
    return msgspec.structs.replace(
        state,
        last_end=window.end,
        drift=drift,
        data=data,
        quality=quality,
        harm=harm,
        drift_since=_since(state.drift_since, drift is not None and drift.failed, window.end),
        data_since=_since(state.data_since, data is not None and data.failed, window.end),
        harm_since=_since(state.harm_since, harmed, window.end),
        moved=window.moved or state.moved,
        evidence=window.evidence if window.rows else state.evidence,
        empty=empty,
        empty_since=_since(state.empty_since if state.empty else None, empty > 0, window.start),
        windows=(*state.windows, figures)[-KEPT:],
        estimate=window.estimate,
        labels=window.labels or state.labels,
        incidents=_incidents(state.incidents, window),
    )


def _incidents(before: tuple[Period, ...], window: WindowObserved) -> tuple[Period, ...]:
    """Windows that follow each other are one incident."""
    if values_broken(window.data) is None:
        return before
    if before and before[-1].end == window.start:
        return (*before[:-1], Period(before[-1].start, window.end))
    return (*before, Period(window.start, window.end))[-KEPT_INCIDENTS:]


def values_broken(data: Verdict | None) -> str | None:
    """What is wrong with the values that arrive. Requests that failed are not among it: a client
    that sends malformed ones has no part in what a model is trained on."""
    if data is None or not data.failed:
        return None
    if not data.parts:
        return data.sentence
    return next((part.sentence for part in data.parts if part.check != FAILED_REQUESTS), None)


def _latest(before: Verdict | None, now: Verdict | None) -> Verdict | None:
    """An inconclusive verdict neither clears nor hides what was found."""
    if now is None or (before is not None and now.outcome is Outcome.INCONCLUSIVE):
        return before
    return now


def _since(before: datetime | None, holds: bool, now: datetime) -> datetime | None:
    return (before or now) if holds else None


def _raised(state: MonitorState, event: AlertRaised, at: datetime) -> MonitorState:
    if state.alert(event.kind) is not None:
        return state
    alert = Alert(
        event.key,
        event.kind,
        event.severity,
        event.title,
        event.text,
        event.since,
        incident=event.incident or event.key,
        raised=at,
    )
    notices = state.notices
    if event.severity != "info":
        told = Notice(event.key, event.title, event.text, event.severity, at)
        notices = (*notices, _of(alert, told))
    return msgspec.structs.replace(
        state, open_alerts=(*state.open_alerts, alert), notices=notices[-UNSENT:]
    )


def _escalated(state: MonitorState, event: AlertEscalated, at: datetime) -> MonitorState:
    alert = next((a for a in state.open_alerts if a.key == event.key), None)
    if alert is None or alert.raised == at:
        return state
    louder = msgspec.structs.replace(alert, severity=event.severity, raised=at)
    text = f"{event.text}; {alert.sentence}"
    notice = _of(alert, Notice(event.key, alert.title, text, event.severity, at))
    waiting = tuple(n for n in state.notices if n.key != event.key)
    return msgspec.structs.replace(
        state,
        open_alerts=tuple(louder if a.key == event.key else a for a in state.open_alerts),
        notices=(*waiting, notice)[-UNSENT:],
    )


def _resolved(state: MonitorState, event: AlertResolved, at: datetime) -> MonitorState:
    alert = state.alert(event.kind)
    if alert is None or alert.key != event.key:
        return state
    # people who were never told that it began are not told that it ended
    notices = tuple(n for n in state.notices if n.key != event.key)
    if alert.told:
        title = f"resolved: {alert.title}"
        over = Notice(event.key + RESOLVED, title, event.text, "info", at, was=alert.severity)
        notices = (*notices, _of(alert, over))
    return msgspec.structs.replace(
        state,
        open_alerts=tuple(a for a in state.open_alerts if a.key != event.key),
        notices=notices[-UNSENT:],
    )


def _of(alert: Alert, notice: Notice) -> Notice:
    return msgspec.structs.replace(notice, since=alert.since, incident=alert.incident)


def _notified(state: MonitorState, event: AlertNotified) -> MonitorState:
    told = tuple(
        msgspec.structs.replace(a, told=True) if a.key == event.key else a
        for a in state.open_alerts
    )
    waiting = tuple(n for n in state.notices if n.key != event.key)
    return msgspec.structs.replace(state, open_alerts=told, notices=waiting)
