"""What the loop shows at /metrics: a pure function of what it knows.

A figure that the last window did not measure is not shown, rather than shown as it was: in a
chart that is a gap, and `absent()` finds it. Counters come from the fold, so they survive any
restart. Times are of the loop's clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from homeostat.control.model import State
from homeostat.control.tally import Counts
from homeostat.core.ports import Gauge
from homeostat.core.verdict import Verdict
from homeostat.definition import Project
from homeostat.monitoring.alerts.decide import EVERY, KINDS, notices, silence
from homeostat.monitoring.model import WindowObserved
from homeostat.monitoring.quality.estimate.model import Estimated, Standing
from homeostat.rollout.model import Phase, Rollout

HELP = {
    "model_drift_score": "Distance (0 to 1) of a feature, or the score, from its reference in the"
    " last window; the most moved ones.",
    "model_drift_alert_total": "How often drift set in.",
    "model_accuracy": "The declared metric (label metric) on final labels, in the last window;"
    " missing where it could not be measured.",
    "homeostat_drift_low": "Lower bound of model_drift_score.",
    "homeostat_joint_drift": "Distance (0 to 1) of how rows lie among all features together from"
    " the reference, in the last window; where monitoring.drift.joint is declared.",
    "homeostat_drift_min_effect": "Declared: movement below it is no drift.",
    "homeostat_quality_low": "Lower end of the interval of model_accuracy.",
    "homeostat_quality_high": "Upper end of the interval of model_accuracy.",
    "homeostat_quality_labels": "Final labels that model_accuracy rests on.",
    "homeostat_quality_bound": "Declared: the floor (bound min) or ceiling (bound max) of"
    " model_accuracy.",
    "homeostat_quality_loss": "What was lost against the champion's own test figure, in the"
    " metric's unit.",
    "homeostat_quality_loss_low": "Lower bound of homeostat_quality_loss.",
    "homeostat_quality_loss_tolerance": "The loss that is tolerated.",
    "homeostat_estimated_quality": "What the metric (label metric) may be, guessed without labels;"
    " missing where its assumptions fail. No measurement.",
    "homeostat_estimated_quality_low": "Lower end of homeostat_estimated_quality.",
    "homeostat_estimated_quality_high": "Upper end of homeostat_estimated_quality.",
    "homeostat_estimate_standing": "1 for how far the assumptions of the estimate hold: holds,"
    " doubtful or withdrawn.",
    "homeostat_monitor_outcome": "The last window's verdict: 0 pass, 1 inconclusive, 2 error,"
    " 3 fail.",
    "homeostat_data_fault_share": "Share of the last window's rows with a fault that failed.",
    "homeostat_window_requests": "Requests in the last window.",
    "homeostat_window_errors": "Failed requests in the last window.",
    "homeostat_monitor_last_window_timestamp_seconds": "End of the last window looked at.",
    "homeostat_loop_last_tick_timestamp_seconds": "When the loop last turned.",
    "homeostat_loop_problems": "What the last turn could not do, and tries again.",
    "homeostat_alert_open": "1 for every alert that is open.",
    "homeostat_alerts_total": "Alerts raised.",
    "homeostat_silenced": "1 while nobody is told of alerts of a kind.",
    "homeostat_notices_waiting": "Notices that could not be delivered yet; silenced ones are not"
    " among them.",
    "homeostat_calibrated_false_alarms": "False alarms per month of a monitor (label check), as"
    " calibrated for the champion.",
    "homeostat_calibrated_false_alarms_low": "Lower end of homeostat_calibrated_false_alarms.",
    "homeostat_calibrated_false_alarms_high": "Upper end of homeostat_calibrated_false_alarms.",
    "homeostat_false_alarm_budget": "Declared: false alarms per month.",
    "homeostat_false_alarm_budget_used": "Expected false alarms that the windows of the last 30"
    " days were allowed.",
    "homeostat_label_delay_seconds": "How long labels took that became final last; label share"
    " is the quantile.",
    "homeostat_label_coverage": "Share of the requests whose labels should be final that have one.",
    "homeostat_champion_info": "1 for the version that is the champion.",
    "homeostat_rollout_phase": "1 for the phase of the last rollout.",
    "homeostat_rollout_percent": "The candidate's share of the requests, in percent.",
    "homeostat_rollouts_total": "Rollouts that ended.",
    "homeostat_guard_harm": "How much worse the candidate is, in the guard's unit (latency: a"
    " ratio).",
    "homeostat_guard_harm_low": "Lower bound of homeostat_guard_harm.",
    "homeostat_guard_harm_high": "Upper bound of homeostat_guard_harm.",
    "homeostat_guard_limit": "Declared: the harm that is tolerated.",
    "homeostat_guard_requests": "Observations that homeostat_guard_harm rests on.",
    "homeostat_guard_outcome": "The guard's verdict: 0 pass, 1 inconclusive, 2 error, 3 fail.",
    "homeostat_retrainings_total": "Retrainings that the loop started.",
    "homeostat_runs_total": "Training runs that ended, by hand too.",
    "homeostat_retraining_refusals_total": "Retrainings that were wanted and not admitted.",
    "homeostat_retrainings_last_week": "Retrainings started in the last seven days.",
    "homeostat_retrainings_per_week": "Declared: the budget of retrainings over seven days.",
    "homeostat_retrainings_without_gain": "Retrainings since the last promotion.",
    "homeostat_retrainings_without_gain_limit": "Declared: after so many a person is asked.",
    "homeostat_training_running": "1 while a run of the loop's own is under way.",
}


KIND = {name: "counter" if name.endswith("_total") else "gauge" for name in HELP}


Figure = tuple[str, float, dict[str, str]]
"""Name, value, and the labels beside the model."""


class Labels(msgspec.Struct, frozen=True):
    """The labels that became final in a window. requests: how many should have one; labelled:
    how many have; delay: seconds from request to label, by quantile (empty without labels)."""

    requests: int
    labelled: int
    delay: dict[float, float] = {}


def gauges(
    state: State,
    project: Project,
    *,
    now: datetime,
    evidence: Mapping[str, tuple[Verdict, ...]] | None = None,
    labels: Labels | None = None,
    problems: int = 0,
    kept: Sequence[Gauge] | None = None,
) -> list[Gauge]:
    """evidence: this turn's verdicts on each version that the rollout tries; those that were last
    recorded where None. labels: of the last window, None where nobody looked. problems: how many
    this turn had. kept: `standing`, if it is there already."""
    found = [
        _gauge("homeostat_loop_last_tick_timestamp_seconds", now.timestamp()),
        _gauge("homeostat_loop_problems", problems),
        *_silences(state, now),
        *_evidence(state, evidence or {}),
    ]
    week = sum(t > now - timedelta(days=7) for t in state.trained)
    found.append(_gauge("homeostat_retrainings_last_week", week))
    if state.window is not None:
        found.append(_gauge("homeostat_false_alarm_budget_used", state.tally.budget_used(now)))
    if labels is not None:
        found += _labels(labels)
    return [*(standing(state, project) if kept is None else kept), *_shown(project, found)]


def standing(state: State, project: Project) -> list[Gauge]:
    """Those that stay as they are until something is decided."""
    found = [*_declared(project), *_alerts(state), *_training(state, project), *_rollout(state)]
    if state.window is not None:
        found += _window(state.window, project)
    return _shown(project, found)


def _shown(project: Project, found: Sequence[Figure]) -> list[Gauge]:
    return [
        Gauge(name, float(value), {"model": project.name, **labels}, KIND[name], HELP[name])
        for name, value, labels in found
    ]


def _gauge(name: str, value: float, **labels: str) -> Figure:
    return name, value, labels


def _declared(project: Project) -> Iterator[Figure]:
    drift, quality = project.monitoring.drift, project.monitoring.quality
    yield _gauge("homeostat_drift_min_effect", drift.min_effect)
    yield _gauge("homeostat_false_alarm_budget", drift.false_alarms_per_month)
    if quality is not None:
        for bound, value in (("min", quality.min), ("max", quality.max)):
            if value is not None:
                name = "homeostat_quality_bound"
                yield _gauge(name, value, metric=quality.metric, bound=bound)


def _window(window: WindowObserved, project: Project) -> Iterator[Figure]:
    version = window.version
    yield _gauge("homeostat_monitor_last_window_timestamp_seconds", window.end.timestamp())
    yield _gauge("homeostat_window_requests", window.rows)
    yield _gauge("homeostat_window_errors", window.errors)
    for verdict in window.verdicts:
        yield _gauge("homeostat_monitor_outcome", verdict.outcome.rank, check=verdict.check)
    for fault in window.data.parts:
        if fault.figure is not None:
            yield _gauge("homeostat_data_fault_share", fault.figure, fault=fault.check)
    for moved in window.moved:
        for name, value in (
            ("model_drift_score", moved.effect),
            ("homeostat_drift_low", moved.low),
        ):
            if value is not None:
                yield _gauge(name, value, version=version, feature=moved.feature)
    if window.joint is not None and window.joint.figure is not None:
        yield _gauge("homeostat_joint_drift", window.joint.figure, version=version)
    if window.estimate is not None:
        yield from _estimate(window.estimate, version)
    if project.monitoring.quality is not None and window.quality is not None:
        yield from _quality(window, window.quality, project.monitoring.quality.metric)


def _quality(window: WindowObserved, quality: Verdict, metric: str) -> Iterator[Figure]:
    figures = {
        "model_accuracy": quality.figure,
        "homeostat_quality_low": quality.low,
        "homeostat_quality_high": quality.high,
        "homeostat_quality_labels": quality.n,
    }
    if window.harm is not None:
        figures["homeostat_quality_loss"] = window.harm.loss
        figures["homeostat_quality_loss_low"] = window.harm.low
        figures["homeostat_quality_loss_tolerance"] = window.harm.tolerance
    for name, value in figures.items():
        if value is not None:
            yield _gauge(name, value, version=window.version, metric=metric)


def _estimate(found: Estimated, version: str) -> Iterator[Figure]:
    """Never under the name of a measurement."""
    figures = {"": found.value, "_low": found.low, "_high": found.high}
    for end, value in figures.items():
        if value is not None:
            name = f"homeostat_estimated_quality{end}"
            yield _gauge(name, value, version=version, metric=found.metric)
    for standing in Standing:
        holds = standing is found.standing
        yield _gauge("homeostat_estimate_standing", holds, version=version, standing=standing)


def _labels(labels: Labels) -> Iterator[Figure]:
    if labels.requests:
        yield _gauge("homeostat_label_coverage", labels.labelled / labels.requests)
    for share, seconds in labels.delay.items():
        yield _gauge("homeostat_label_delay_seconds", seconds, share=f"{share:g}")


def _alerts(state: State) -> Iterator[Figure]:
    monitor = state.monitor
    yield _gauge("model_drift_alert_total", state.drift_alerts)
    for alert in monitor.open_alerts:
        yield _gauge("homeostat_alert_open", 1, kind=alert.kind, severity=alert.severity)
    for kind, n in {**dict.fromkeys(KINDS, 0), **state.tally.alerts}.items():
        yield _gauge("homeostat_alerts_total", n, kind=kind)
    certificate = monitor.certificate_of(state.champion)
    for rate in certificate.rates if certificate is not None else ():
        ends = {"": rate.per_month, "_low": rate.low, "_high": rate.high}
        for end, value in ends.items():
            name = f"homeostat_calibrated_false_alarms{end}"
            yield _gauge(name, value, check=rate.monitor)


def _silences(state: State, now: datetime) -> Iterator[Figure]:
    for kind in (*KINDS, EVERY):
        holds = silence(state.monitor, kind, now) is not None
        yield _gauge("homeostat_silenced", holds, kind=kind)
    yield _gauge("homeostat_notices_waiting", len(notices(state.monitor, now)))


def _training(state: State, project: Project) -> Iterator[Figure]:
    rules, tally = project.retraining, state.tally
    wanted: Counts = dict.fromkeys(rules.on, 0)
    for trigger, n in {**wanted, **tally.runs}.items():
        yield _gauge("homeostat_retrainings_total", n, trigger=trigger)
    for trigger, n in {**wanted, **tally.refusals}.items():
        yield _gauge("homeostat_retraining_refusals_total", n, trigger=trigger)
    outcomes = dict.fromkeys(("registered", "refused", "failed"), 0)
    for outcome, n in {**outcomes, **tally.results}.items():
        yield _gauge("homeostat_runs_total", n, outcome=outcome)
    yield _gauge("homeostat_retrainings_per_week", rules.per_week)
    yield _gauge("homeostat_retrainings_without_gain", state.fruitless)
    yield _gauge("homeostat_retrainings_without_gain_limit", rules.stop_after_no_gain)
    yield _gauge("homeostat_training_running", state.open_run is not None)


def _rollout(state: State) -> Iterator[Figure]:
    if state.champion is not None:
        yield _gauge("homeostat_champion_info", 1, version=state.champion)
    ended = dict.fromkeys((Phase.PROMOTED.value, Phase.ROLLED_BACK.value), 0)
    for outcome, n in {**ended, **state.tally.rollouts}.items():
        yield _gauge("homeostat_rollouts_total", n, outcome=outcome)
    rollout = state.rollout
    if rollout is None:
        return
    for phase in Phase:
        holds = phase is rollout.phase
        yield _gauge("homeostat_rollout_phase", holds, candidate=rollout.candidate, phase=phase)
    for version in _tried(rollout):
        yield _gauge("homeostat_rollout_percent", rollout.percent, candidate=version)


def _evidence(state: State, evidence: Mapping[str, tuple[Verdict, ...]]) -> Iterator[Figure]:
    if state.rollout is not None:
        for version, recorded in _tried(state.rollout).items():
            yield from _guards(version, evidence.get(version, recorded))


def _tried(rollout: Rollout) -> dict[str, tuple[Verdict, ...]]:
    """The candidate, or every challenger that is still in an experiment, as last recorded."""
    tried = {t.version: t.verdicts for t in rollout.active} if rollout.live else {}
    return tried or {rollout.candidate: rollout.verdicts}


def _guards(version: str, verdicts: tuple[Verdict, ...]) -> Iterator[Figure]:
    for verdict in verdicts:
        figures = {
            "homeostat_guard_harm": verdict.figure,
            "homeostat_guard_harm_low": verdict.low,
            "homeostat_guard_harm_high": verdict.high,
            "homeostat_guard_limit": verdict.threshold,
            "homeostat_guard_requests": verdict.n,
            "homeostat_guard_outcome": verdict.outcome.rank,
        }
        for name, value in figures.items():
            if value is not None:
                yield _gauge(name, value, candidate=version, guard=verdict.check)
