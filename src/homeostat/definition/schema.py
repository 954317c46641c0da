"""The published JSON Schema of homeostat.yaml: generated from the specs, so that the two cannot
differ. Descriptions come from the specs' docstrings (`field: text.`)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from homeostat.core.duration import PATTERN, Duration
from homeostat.data import spec as data
from homeostat.definition import project
from homeostat.definition.project import Project
from homeostat.monitoring import spec as monitoring
from homeostat.rollout import spec as rollout
from homeostat.serving import spec as serving
from homeostat.training import spec as training

_SPECS = (project, data, training, serving, rollout, monitoring)
ID = "urn:homeostat:schema:v1"

# fields that their docstring does not speak of, or only together with others
_MORE = {
    "Project.name": "The model's name: lower-case letters, digits, dots, dashes.",
    "Project.data": "Where the rows come from and what must hold of them.",
    "Project.training": "How a model is made and measured.",
    "Project.gates": "What a candidate must show on the test set before it is registered.",
    "Project.serving": "How the data plane answers.",
    "Project.rollout": "The plan by which a candidate takes over.",
    "Project.monitoring": "What is watched while the model serves.",
    "Project.retraining": "When a new model is trained, and how often at most.",
    "DataSpec.time": "The column that says when a row happened (without a zone: UTC).",
    "DataSpec.key": "The column that identifies a row, and later its prediction and its label.",
    "DataSpec.label": "The outcome that the model predicts.",
    "DataSpec.query": "The SQL query, for a source that is a database.",
    "DataSpec.expect": "What must hold of the rows before anything is trained on them.",
    "Between.min": "At least this.",
    "Between.max": "At most this.",
    "Column.min": "No value is below it.",
    "Column.max": "No value is above it.",
    "Column.in": "The categories that may occur.",
    "Column.type": "The type that the column has.",
    "Column.nulls": "Allowed, forbidden, or the share (0 to 1) of nulls there may be.",
    "Column.unique": "No value occurs twice.",
    "Expect.columns": "Rules for single columns, by name.",
    "Expect.duplicates": "Whether rows may share a key.",
    "Split.train": "Length of the training period.",
    "Split.gap": "Length of the gap between the two.",
    "Split.test": "Length of the test period, the latest whose labels are final.",
    "Space.log": "Lower and upper bound; searched on a logarithmic scale.",
    "Space.range": "Lower and upper bound.",
    "Space.int": "Lower and upper bound, whole numbers.",
    "Space.choice": "The values to choose from.",
    "Tune.space": "The parameters to search, by name.",
    "Tune.maximize": "The metric to make large.",
    "Tune.minimize": "The metric to make small.",
    "Tune.goal": "Stop once the metric has reached it.",
    "Tune.algorithm": "How the next trial is chosen.",
    "Tune.trials": "How many trials at most.",
    "Tune.parallel": "How many trials at the same time.",
    "Tune.max_failed": "Give up after so many failed trials.",
    "TrainingSpec.split": "The periods of training and test.",
    "TrainingSpec.params": "Handed to `fit` as they are.",
    "TrainingSpec.seed": "Handed to `fit` as `train.seed`.",
    "TrainingSpec.tune": "A search over parameters (not yet available).",
    "Bound.min": "At least this.",
    "Bound.max": "At most this.",
    "Bound.confident": "Hold the interval's end, not the figure, against the bound.",
    "AgainstChampion.metric": "The metric to compare.",
    "AgainstChampion.margin": "How much worse the candidate may be.",
    "Bias.by": "A column of the transformed table, a feature or not, whose values are the groups.",
    "Bias.metric": "The difference between groups that is measured.",
    "Bias.max": "The largest difference that passes.",
    "GatesSpec.against_champion": "The candidate against the champion on the same rows.",
    "GatesSpec.bias": "Largest differences between groups.",
    "GatesSpec.anchor": "A golden set: what the candidate must not unlearn.",
    "Anchor.metric": "The metric on them.",
    "Anchor.min": "At least this.",
    "Anchor.max": "At most this.",
    "Replicas.min": "Workers on one machine (bounded by its cores); replicas on a cluster.",
    "Replicas.max": "Replicas on a cluster at most.",
    "Target.cpu": "Percent of a CPU at which replicas are added (on a cluster).",
    "ServingSpec.max_rows": "Requests with more rows are refused with 413.",
    "ServingSpec.max_body": "Requests with a larger body (bytes) are refused with 413.",
    "ServingSpec.max_bodies": "Bytes of all bodies that a worker holds at a time; what comes "
    "beyond is refused with 503.",
    "ServingSpec.replicas": "How many answer.",
    "ServingSpec.limit": "Rates of requests beyond which some are refused with 429.",
    "ServingSpec.target": "When replicas are added.",
    "QualityGuard.metric": "The per-request loss that is compared.",
    "Guards.quality": "Holds the candidate's loss on matured labels against the champion's.",
    "Guards.latency_p99": "Holds the candidate's p99 latency against the champion's.",
    "Guards.error_rate": "Holds the candidate's share of errors against the champion's.",
    "Guards.latency": "Holds the candidate's share of answers slower than an objective against the "
    "champion's.",
    "Guards.bias": "Holds the candidate's rates of alerts in two groups against each other.",
    "RolloutSpec.guards": "What can stop the rollout; all three, with defaults, if unset.",
    "Quality.min": "The floor, for a metric that is better when higher.",
    "Quality.max": "The ceiling, for a metric that is better when lower.",
    "Quality.metric": "The metric, on matured labels.",
    "Expect.rows": "How many rows the source has.",
    "Expect.leakage": "Whether to look for the label, or its copy, among the features.",
    "MonitoringSpec.drift": "Movement of the inputs and of the scores.",
    "MonitoringSpec.quality": "Live quality on matured labels.",
    **{
        f"GatesSpec.{m}": f"Bounds on {text}."
        for m, text in {
            "auc": "the area under the ROC curve",
            "average_precision": "the average precision",
            "log_loss": "the log loss",
            "brier": "the Brier score",
            "calibration_error": "the expected calibration error",
            "accuracy": "the accuracy at the threshold",
            "precision": "the precision at the threshold",
            "recall": "the recall at the threshold",
            "precision_at_k": "the precision among the k highest scores",
        }.items()
    },
}


def schema() -> dict[str, Any]:
    """Draft 2020-12, with a description for every field."""
    made = msgspec.json.schema(Project, schema_hook=_hook)
    definitions = {name: _describe(name, body) for name, body in made["$defs"].items()}
    root = definitions.pop("Project")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        **root,
        "title": "homeostat.yaml",
        "$defs": definitions,
    }


def _hook(kind: type[Any]) -> dict[str, Any]:
    if kind is Duration:
        return {"type": "string", "pattern": PATTERN, "examples": ["10m", "7d", "1d12h"]}
    raise NotImplementedError(kind)


def _describe(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """The struct's schema with the docstring taken apart into its fields."""
    properties: dict[str, Any] = body.get("properties", {})
    text = " ".join(str(body.get("description", "")).split())
    told = _fields(text, list(properties))
    described: dict[str, Any] = {}
    durations = _duration_defaults(name)
    for field, rule in properties.items():
        if field in durations:
            rule = {**rule, "default": durations[field]}
        sentence = _MORE.get(f"{name}.{field}") or told.get(field)
        described[field] = {**rule, "description": sentence} if sentence else rule
    head = _head(text, list(properties))
    if not head:
        body = {k: v for k, v in body.items() if k != "description"}
    else:
        body = {**body, "description": head}
    return {**body, "properties": described}


def _duration_defaults(name: str) -> dict[str, str]:
    """Defaults that a struct makes anew each time, and that the generator therefore leaves out."""
    struct = next(vars(module)[name] for module in _SPECS if name in vars(module))
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(struct):
        if field.type is Duration and field.default_factory is not msgspec.NODEFAULT:
            found[field.encode_name] = str(field.default_factory())
    return found


def _marker(fields: list[str]) -> re.Pattern[str]:
    names = "|".join(sorted((re.escape(f) for f in fields), key=len, reverse=True)) or "(?!)"
    one = rf"`?(?:{names})`?"
    return re.compile(rf"(?:(?<=^)|(?<=[.)] ))({one}(?:(?:, | or ){one})*): ")


def _head(text: str, fields: list[str]) -> str:
    """What the docstring says of the struct itself."""
    first = _marker(fields).search(text)
    return (text[: first.start()] if first else text).strip()


def _fields(text: str, fields: list[str]) -> dict[str, str]:
    """`min or max: the floor. window: how long.` -> {min: ..., max: ..., window: ...}."""
    marks = list(_marker(fields).finditer(text))
    told: dict[str, str] = {}
    for i, mark in enumerate(marks):
        end = marks[i + 1].start() if i + 1 < len(marks) else len(text)
        sentence = text[mark.end() : end].strip()
        sentence = sentence[:1].upper() + sentence[1:]
        for field in re.split(r", | or ", mark.group(1)):
            told[field.strip("`")] = sentence
    return told
