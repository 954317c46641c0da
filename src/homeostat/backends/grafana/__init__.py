"""The declared project as dashboards for Grafana, provisioned as files. Pure: a project -> texts.

boards.py says what is shown; build.py, the one file that knows the SDK, how Grafana writes it.
"""

from __future__ import annotations

from homeostat.backends.grafana.boards import boards
from homeostat.backends.grafana.provisioning import dashboards_provider, datasource
from homeostat.core.errors import BadInput
from homeostat.definition import Project

__all__ = ["files"]


def files(
    project: Project,
    *,
    prometheus: str = "http://localhost:9090",
    folder: str = "/var/lib/grafana/dashboards",
) -> dict[str, str]:
    """File name -> text. prometheus: the URL of the data source. folder: where Grafana finds the
    dashboards. Raises BadInput where the SDK is not installed."""
    try:
        from homeostat.backends.grafana.build import dashboard
    except ImportError as error:
        raise BadInput(
            "dashboards are built with a package that is not installed",
            found=f"no {error.name}",
            remedy="pip install 'homeostat[grafana]'",
        ) from None
    found = {f"dashboards/{project.name}-{b.name}.json": dashboard(b) for b in boards(project)}
    return {
        **found,
        "provisioning/datasources/homeostat.yml": datasource(prometheus),
        "provisioning/dashboards/homeostat.yml": dashboards_provider(folder),
    }
