"""Small configurations that run as they are; what is in them can be copied into larger ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import yaml

from homeostat.core.duration import Duration

MADE = "# Made by `homeostat export prometheus` from homeostat.yaml; made anew, not edited.\n"


def document(head: str, value: Any) -> str:
    """One YAML document under a comment, keys in the order given."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100_000)
    return MADE + head + text


def prometheus_config(
    model: str, rules_file: str, target: str, alertmanager: str, every: timedelta
) -> str:
    head = f"# prometheus --config.file=prometheus.yml scrapes and watches {model}.\n"
    return document(
        head,
        {
            "global": {
                "scrape_interval": str(Duration.of(every)),
                "scrape_timeout": str(min(Duration.of(every), Duration(seconds=10))),
                "evaluation_interval": str(Duration.of(every)),
            },
            "rule_files": [rules_file],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [
                {"job_name": model, "static_configs": [{"targets": [target]}]},
            ],
        },
    )


def alertmanager_config() -> str:
    head = """\
# One notice for one cause: what the loop tells and what Prometheus sees of it are one group, and
# a rule keeps silent while the loop's own alert (it names the incident) is open.
# Give `people` a way to be reached: https://prometheus.io/docs/alerting/latest/configuration/
"""
    return document(
        head,
        {
            "route": {
                "receiver": "people",
                "group_by": ["model", "kind"],
                "group_wait": "30s",
                "routes": [{"matchers": ['severity="info"'], "receiver": "nobody"}],
            },
            "inhibit_rules": [
                {
                    "source_matchers": ['incident!=""'],
                    "target_matchers": ['incident=""', 'kind!=""'],
                    "equal": ["model", "kind"],
                },
            ],
            "receivers": [{"name": "people"}, {"name": "nobody"}],
        },
    )
