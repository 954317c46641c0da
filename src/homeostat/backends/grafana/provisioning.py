"""The two files by which Grafana finds its data source and its dashboards when it starts."""

from __future__ import annotations

from typing import Any

import yaml

MADE = "# Made by `homeostat export grafana`; made anew, not edited.\n"


def datasource(url: str) -> str:
    """url: of Prometheus, as Grafana reaches it."""
    return _document(
        {
            "apiVersion": 1,
            "datasources": [
                {
                    "name": "Homeostat Prometheus",
                    "uid": "homeostat-prometheus",
                    "type": "prometheus",
                    "access": "proxy",
                    "url": url,
                    "jsonData": {"httpMethod": "POST"},
                }
            ],
        }
    )


def dashboards_provider(folder: str) -> str:
    """folder: with the JSON files, as Grafana sees it."""
    return _document(
        {
            "apiVersion": 1,
            "providers": [
                {
                    "name": "homeostat",
                    "folder": "Homeostat",
                    "type": "file",
                    "allowUiUpdates": False,
                    "options": {"path": folder},
                }
            ],
        }
    )


def _document(value: Any) -> str:
    return MADE + yaml.safe_dump(value, sort_keys=False, width=100_000)
