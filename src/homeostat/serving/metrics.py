"""Prometheus text: the counters of all workers, and what the monitors want shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from homeostat.core.ports import Gauge
from homeostat.serving.counters import BOUNDS, Totals
from homeostat.serving.status import WorkerStatus

_HELP = {
    "model_predictions_total": "Predictions answered (rows).",
    "model_prediction_errors_total": "Predictions that failed; version is empty when none saw it.",
    "model_prediction_duration_seconds": "From a request's arrival to its answer, per prediction.",
}
_PLAIN = {
    "log_dropped": (
        "homeostat_log_dropped_total",
        "Prediction records that could not be kept in the log.",
    ),
    "shadow_skipped": (
        "homeostat_shadow_skipped_total",
        "Predictions that were to be scored in pairs and were not.",
    ),
    "labels": ("homeostat_labels_total", "Labels accepted."),
    "requests": ("homeostat_requests_total", "Requests received, of every kind."),
    "answered": ("homeostat_requests_answered_total", "Requests that got what they asked for."),
    "shed": (
        "homeostat_requests_shed_total",
        "Requests not computed for want of capacity or time (429, 503, 504).",
    ),
    "failed": (
        "homeostat_requests_failed_total",
        "Requests that got another error, or none because their worker was killed.",
    ),
    "lost": (
        "homeostat_requests_lost_total",
        "Of those that failed, the ones under way when a worker was killed.",
    ),
    "expired": (
        "homeostat_requests_expired_total",
        "Of those that were shed, the ones whose deadline had passed.",
    ),
}


def render(totals: Totals, gauges: Iterable[Gauge]) -> bytes:
    """-> Prometheus text, format 0.0.4."""
    lines: list[str] = []
    series = sorted(totals.series.items())
    for i, name in enumerate(("model_predictions_total", "model_prediction_errors_total")):
        lines += _head(name, "counter", _HELP[name])
        lines += [
            f"{name}{_labels(_of(key))} {int(values[i])}"
            for key, values in series
            if values[i] or key[1]
        ]
    lines += _histogram(totals)
    for field, (name, text) in _PLAIN.items():
        lines += [*_head(name, "counter", text), f"{name} {totals.globals[field]}"]
    done = ("answered", "shed", "failed")
    # the words of a worker that counts meanwhile are not all of one moment
    under_way = max(0, totals.globals["requests"] - sum(totals.globals[name] for name in done))
    name = "homeostat_requests_in_flight"
    lines += [*_head(name, "gauge", "Requests taken in and not ended yet."), f"{name} {under_way}"]
    lines += _shown(gauges)
    return ("\n".join(lines) + "\n").encode()


def memory_gauges(workers: Iterable[WorkerStatus]) -> list[Gauge]:
    """Bytes per version that is loaded, over all workers."""
    sums: dict[tuple[str, str], int] = {}
    for worker in workers:
        for model, versions in worker.memory.items():
            for version, size in versions.items():
                sums[model, version] = sums.get((model, version), 0) + size
    return [
        Gauge(
            "homeostat_model_memory_bytes",
            size,
            {"model": model, "version": version},
            help="Memory that loading a version took, over all workers, about.",
        )
        for (model, version), size in sorted(sums.items())
    ]


def _histogram(totals: Totals) -> list[str]:
    name = "model_prediction_duration_seconds"
    lines = _head(name, "histogram", _HELP[name])
    for key, values in sorted(totals.series.items()):
        if not key[1]:
            continue
        labels, count = _of(key), 0
        for bound, n in zip((*map(_number, BOUNDS), "+Inf"), values[3:], strict=True):
            count += int(n)
            lines.append(f"{name}_bucket{_labels({**labels, 'le': bound})} {count}")
        lines.append(f"{name}_sum{_labels(labels)} {_number(values[2])}")
        lines.append(f"{name}_count{_labels(labels)} {count}")
    return lines


def _shown(gauges: Iterable[Gauge]) -> list[str]:
    by_name: dict[str, list[Gauge]] = {}
    for gauge in gauges:
        by_name.setdefault(gauge.name, []).append(gauge)
    lines: list[str] = []
    for name, group in sorted(by_name.items()):
        kind = "counter" if group[0].kind == "counter" else "gauge"
        told = " ".join(group[0].help.split()) or f"{name.replace('_', ' ').capitalize()}."
        lines += _head(name, kind, told.replace("\\", r"\\"))
        lines += [f"{name}{_labels(g.labels)} {_number(g.value)}" for g in group]
    return lines


def _of(key: tuple[str, str, str]) -> dict[str, str]:
    return dict(zip(("model", "version", "arm"), key, strict=True))


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return {float("inf"): "+Inf", float("-inf"): "-Inf"}.get(value) or (
        "NaN" if value != value else repr(value)
    )
