"""The declared project as files for Prometheus and Alertmanager. Pure: a project -> texts."""

from __future__ import annotations

from datetime import timedelta

from homeostat.backends.prometheus.config import alertmanager_config, prometheus_config
from homeostat.backends.prometheus.rules import rules
from homeostat.definition import Project

__all__ = ["files"]


def files(
    project: Project,
    *,
    target: str = "localhost:8080",
    alertmanager: str = "localhost:9093",
    every: timedelta = timedelta(seconds=15),
) -> dict[str, str]:
    """File name -> text. target: host:port of the data plane. alertmanager: host:port. every: how
    often Prometheus scrapes and judges."""
    rules_file = f"{project.name}.rules.yml"
    return {
        "prometheus.yml": prometheus_config(project.name, rules_file, target, alertmanager, every),
        rules_file: rules(project),
        "alertmanager.yml": alertmanager_config(),
    }
