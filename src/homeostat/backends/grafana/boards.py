"""The dashboards of a project. Pure."""

from __future__ import annotations

from hashlib import sha256

from homeostat.backends.grafana import answers, loop, rollout
from homeostat.backends.grafana.charts import Board
from homeostat.definition import Project


def boards(project: Project) -> tuple[Board, ...]:
    """The model as it answers; its rollout; the loop that watches it."""
    model = project.name
    made = "Made by `homeostat export grafana`."
    shown = (
        ("model", "answers", "How it answers and how good it is.", answers.rows(project)),
        ("rollout", "rollout", "The candidate against the champion.", rollout.rows(model)),
        ("loop", "loop", "What watches and repairs it.", loop.rows(project)),
    )
    return tuple(
        Board(_uid(model, name), name, f"{model}: {title}", f"{about} {made}", rows)
        for name, title, about, rows in shown
    )


def _uid(model: str, name: str) -> str:
    """Grafana takes 40 characters."""
    plain = f"homeostat-{model}-{name}"
    return plain if len(plain) <= 40 else f"{sha256(model.encode()).hexdigest()[:30]}-{name}"
