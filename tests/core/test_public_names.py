"""What `import homeostat` gives."""

from __future__ import annotations

import subprocess
import sys

import homeostat


def test_every_public_name_is_there() -> None:
    assert all(getattr(homeostat, name) is not None for name in homeostat.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import homeostat, sys; print(sum(m in sys.modules for m in ('polars', 'mlflow')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "0"
