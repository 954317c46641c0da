"""What people read: tables, sentences and colours, from values. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from homeostat.cli.output import coloured
from homeostat.core.verdict import Outcome, Verdict

if TYPE_CHECKING:
    from homeostat.control.history import HistoryLine
    from homeostat.control.pipeline import PipelineResult
    from homeostat.control.readiness import Readiness
    from homeostat.control.registration import Registered
    from homeostat.control.status import Champion, RolloutView, Status
    from homeostat.definition import Mistake, Report
    from homeostat.monitoring.drift.compare import DriftReport

_MARKS = {
    Outcome.PASS: ("pass", "green"),
    Outcome.INCONCLUSIVE: ("open", "yellow"),
    Outcome.ERROR: ("error", "red"),
    Outcome.FAIL: ("fail", "red"),
}


def mark(outcome: Outcome, *, pad: bool = True) -> str:
    """The outcome as a word in its colour, of five characters with `pad`."""
    word, colour = _MARKS[outcome]
    return coloured(f"{word:<5}" if pad else word, colour)


def columns(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Rows as aligned lines; `right` names the columns of figures."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def when(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def scaffolded(folder: Path, files: Sequence[str]) -> str:
    lines = [f"{folder}: a project that runs as it is"]
    lines += [f"  {file}" for file in files]
    return "\n".join([*lines, f"next: cd {folder} && homeostat check && homeostat run"])


def warning(mistake: Mistake) -> str:
    return f"{coloured('warning', 'yellow')}: {mistake.line()}"


def report(found: Report) -> str:
    """A definition without mistakes."""
    project = found.project
    assert project is not None
    lines = [warning(w) for w in found.warnings]
    functions = [f for f in (project.data.transform, project.training.fit) if f]
    lines.append(
        f"{coloured('ok', 'green')}: {project.name}, from {project.data.source}; "
        f"{' and '.join(functions)} can be called"
    )
    return "\n".join(lines)


def pipeline(result: PipelineResult) -> str:
    lines = [result.run]
    for name, verdict in result.stages.items():
        lines.append(f"  {mark(verdict.outcome)} {name:<10} {without_name(verdict, name)}")
        if not verdict.passed or name == "evaluate":
            lines += _parts(verdict, indent=8)
    if result.version is not None:
        lines.append(f"version {result.version} is registered; next: {result.next}")
    return "\n".join(lines)


def registered(found: Registered) -> str:
    lines = [f"{mark(found.gates.outcome)} {found.gates.sentence}"]
    lines += _parts(found.gates, indent=2)
    version = found.version.version
    return "\n".join(
        [*lines, f"version {version} is registered; next: homeostat rollout start {version}"]
    )


def without_name(verdict: Verdict, name: str) -> str:
    """The sentence, without the check's name before it where that has just been printed."""
    return verdict.sentence.removeprefix(f"{name}: ")


def _parts(verdict: Verdict, *, indent: int) -> list[str]:
    """The leaves of a verdict, a line each."""
    lines = []
    for part in verdict.parts:
        if part.parts:
            lines += _parts(part, indent=indent)
        else:
            lines.append(f"{' ' * indent}{mark(part.outcome)} {part.sentence}")
    return lines


def status(found: Status) -> str:
    head = f"{coloured(found.model, 'bold')} at {when(found.at)} UTC"
    return "\n".join([head, *_status(found)])


def _status(found: Status) -> Iterator[str]:
    yield from _alerts(found)
    if found.champion is None:
        yield "champion    none yet"
    else:
        yield from _champion(found.champion)
        if figures := _figures(found.champion.metrics):
            yield f"            on its test set: {figures}"
    yield f"serving     {_serving(found)}"
    for version, reason in found.serving.failures.items():
        yield f"            {coloured('cannot be loaded', 'red')}: version {version}: {reason}"
    if found.rollout is not None and found.rollout.ended is None:
        yield from _rollout(found.rollout)
    elif found.rollout is not None:
        yield from _ended(found.rollout)
    yield from _waiting(found)
    if found.run is not None:
        run = found.run
        yield f"last run    {run.run} ({run.trigger}): {run.outcome}, stage {run.stage}"
        if run.sentence:
            yield f"            {run.sentence}"
        if run.goes_on:
            yield f"            if it was stopped, go on with: {run.goes_on}"
    watched = f"until {when(found.watched_until)}" if found.watched_until else "nothing yet"
    if found.watched_until and found.watched_until > found.at:
        watched += f": the clock is behind it ({when(found.at)}), the monitors wait"
    yield f"watched     {watched}"
    for verdict in found.monitors:
        yield f"            {mark(verdict.outcome)} {verdict.sentence}"
    if found.moved:
        yield f"                  moved: {', '.join(m.sentence for m in found.moved)}"
    if found.estimate is not None:
        yield f"            {coloured('guess', 'dim')} {found.estimate.sentence}"
    if found.certificate is not None:
        told = "; ".join(
            f"{r.monitor} {r.per_month:.2g} ({r.low:.2g} to {r.high:.2g})"
            for r in found.certificate.rates
        )
        yield f"            false alarms a month, as calibrated: {told}"
    yield from _retraining(found)
    yield f"next        {found.next}"


def _champion(champion: Champion) -> Iterator[str]:
    yield f"champion    version {champion.version} since {when(champion.since)}"
    if champion.reason:
        yield f"            {champion.reason}"


def _waiting(found: Status) -> Iterator[str]:
    """For the loop, and for people."""
    if found.waiting:
        live = found.rollout is not None and found.rollout.ended is None
        turn = f"until {found.rollout.id} is over" if found.rollout and live else "for its rollout"
        yield f"waiting     version {', '.join(found.waiting)}, {turn}"
    if found.registered:
        first = found.registered[0]
        yield (
            f"registered  version {', '.join(found.registered)}, for a person to roll out: "
            f"homeostat rollout start {first}"
        )


def _alerts(found: Status) -> Iterator[str]:
    """First: whoever was woken looks for these."""
    for silence in found.silences:
        yield f"silence     {silence.sentence}"
    for alert in found.alerts:
        word, colour = {"critical": ("ALERT", "red"), "warning": ("ALERT", "yellow")}.get(
            alert.severity, ("noted", "dim")
        )
        quiet = "" if alert.silenced is None else f", silenced until {when(alert.silenced)}"
        yield (
            f"{coloured(word, colour)}       {alert.severity} {alert.kind}, since "
            f"{when(alert.since)}{quiet}: {alert.title}"
        )
        told = [part for part in _clauses(alert.sentence) if not part.startswith("more: ")]
        yield from (f"            {part}" for part in told)


def _clauses(sentence: str) -> list[str]:
    """At its semicolons, not at those within parentheses."""
    found, depth = [""], 0
    for part in sentence.split("; "):
        found[-1] += part
        depth += part.count("(") - part.count(")")
        if depth > 0:
            found[-1] += "; "
        else:
            found.append("")
    return [clause for clause in found if clause]


def _figures(metrics: dict[str, float]) -> str:
    shown = ("auc", "average_precision", "log_loss", "precision", "recall")
    return ", ".join(f"{m} {metrics[m]:.3f}" for m in shown if m in metrics)


def _serving(found: Status) -> str:
    serving = found.serving
    if serving.workers == 0:
        return "no worker is running"
    split = ", ".join(f"version {v} {share:.4g} %" for v, share in serving.traffic.items())
    applied = "" if serving.applied or not split else " (not yet applied by every worker)"
    plural = "s" if serving.workers > 1 else ""
    return f"{serving.workers} worker{plural}; {split or 'no version'}{applied}"


def _retraining(found: Status) -> Iterator[str]:
    spec = found.retraining
    window = f", on {spec.window.replace('_', ' ')} data" if spec.window != "sliding" else ""
    yield f"retraining  {spec.used_this_week} of {spec.per_week} this week{window}"
    if spec.cause:
        since = f", since about {when(spec.changed)}" if spec.changed else ""
        yield f"            changed: {spec.cause}{since}"
    if spec.wanted:
        yield f"            wanted by {spec.wanted}"
    if spec.refused:
        yield f"            not admitted: {spec.refused}"


def rollout(found: Status) -> str:
    """The rollout that is live; else the last one, who is the champion since, and what waits."""
    view, champion = found.rollout, found.champion
    if view is not None and view.ended is None:
        return "\n".join([*_rollout(view), *_waiting(found)])
    if view is None and champion is None:
        return f"no rollout yet; next: {found.next}"
    lines = []
    # of a version that has been taken back since, it would say what is no longer so
    if view is not None and not (champion and view.ended and view.ended < champion.since):
        lines += [*_ended(view), *_guards(view)]
    lines += _champion(champion) if champion else []
    return "\n".join([*lines, *_waiting(found), f"next        {found.next}"])


def _rollout(view: RolloutView) -> Iterator[str]:
    steps = " > ".join(
        coloured(f"[{s:g}]", "bold") if s == view.percent else f"{s:g}" for s in view.steps
    )
    phase = str(view.phase).replace("_", " ")
    tried = ", ".join(c.version for c in view.challengers) or view.candidate
    each = " each" if len(view.challengers) > 1 else ""
    yield (
        f"rollout     {view.id}: version {tried} against {view.champion}, {phase}, "
        f"{view.percent:.4g} %{each} since {when(view.since)}"
    )
    yield f"            {view.strategy.replace('_', '/')} {steps or 'in the shadow'}"
    if view.reason:
        yield f"            {view.reason}"
    if view.frozen:
        yield f"            {coloured('frozen', 'yellow')}: {view.frozen}"
    if view.edited:
        yield "            `rollout:` was edited since: this one keeps the plan it began with"
    yield from _guards(view)


def _ended(view: RolloutView) -> Iterator[str]:
    tried = ", ".join(c.version for c in view.challengers) or view.candidate
    yield (
        f"rollout     {view.id}: version {tried} against {view.champion}, "
        f"{str(view.phase).replace('_', ' ')} by {view.by} at {when(view.ended or view.since)}"
    )
    yield f"            {view.reason}; more: homeostat rollout explain {view.id}"


def _guards(view: RolloutView) -> Iterator[str]:
    for verdict in view.guards:
        yield f"            {mark(verdict.outcome)} {verdict.sentence}"
    for challenger in view.challengers:
        out = f", out: {challenger.retired}" if challenger.retired else ""
        yield f"            version {challenger.version}{out}"
        for verdict in challenger.guards:
            yield f"              {mark(verdict.outcome)} {verdict.sentence}"


def history(lines: Sequence[HistoryLine], *, evidence: bool = False) -> str:
    if not lines:
        return "nothing has been decided yet; next: homeostat run"
    shown = []
    for line in lines:
        shown.append(f"{coloured(when(line.at), 'dim')}  {line.sentence}")
        if evidence:
            for verdict in line.verdicts:
                shown += _parts(verdict, indent=21) or [
                    f"{' ' * 21}{mark(verdict.outcome)} {verdict.sentence}"
                ]
    return "\n".join(shown)


def readiness(found: Readiness) -> str:
    if found.version is not None:
        return f"{coloured('ready', 'green')}: version {found.version} answers"
    return f"{coloured('not ready', 'yellow')}: {found.missing}; next: {found.next}"


def note(text: str) -> str:
    """What keeps the loop from turning, or could not be brought about yet."""
    return f"{coloured('not yet', 'yellow')}: {text}"


def drift(found: DriftReport, report: Path | None) -> str:
    """The columns, most moved first, then the verdict."""
    rows = [["column", "drift", "effect", "at least", "psi", "nulls"]]
    rows += [
        [
            column.column,
            {Outcome.FAIL: "yes", Outcome.PASS: "no"}.get(column.outcome, "cannot tell"),
            _number(column.effect),
            _number(column.low),
            _number(column.psi),
            f"{column.nulls_reference:.1%} > {column.nulls_current:.1%}",
        ]
        for column in found.ranked()
    ]
    lines = columns(rows, right=(2, 3, 4)) if len(rows) > 1 else []
    lines += [change.sentence for change in found.schema]
    lines += [f"{s.slice}: {s.verdict.sentence}" for s in found.slices if s.columns]
    lines += [found.joint.verdict.sentence] if found.joint else []
    lines += [found.harm.sentence] if found.harm else []
    lines.append(f"{mark(found.verdict.outcome, pad=False)}: {found.verdict.sentence}")
    if report is not None:
        lines.append(f"report: {report}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
