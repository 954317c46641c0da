"""What a model was made with, as tags: enough to say whether two versions can be compared, and
to build the same environment again."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "homeostat",
    "keras",
    "lightgbm",
    "numpy",
    "onnx",
    "onnxmltools",
    "onnxruntime",
    "polars",
    "scikit-learn",
    "scipy",
    "skl2onnx",
    "tensorflow",
    "tensorflow-cpu",
    "tf2onnx",
    "xgboost",
    "xgboost-cpu",
)


def describe(root: Path) -> dict[str, str]:
    """Tags: `environment` (a digest of the rest but git), `python`, `platform`, `packages`
    (name==version, spaces between), `git_commit` and `git_dirty` (true | false) of the project
    folder; the last two are left out where there is no git or no repository."""
    tags = {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "packages": " ".join(f"{p}=={v}" for p in PACKAGES if (v := _version(p)) is not None),
    }
    text = "\n".join(f"{k}={v}" for k, v in tags.items())
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return {"environment": digest, **tags, **_git(root)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path) -> dict[str, str]:
    commit = _ask_git(root, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changed = _ask_git(root, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"git_commit": commit.strip(), "git_dirty": "true" if changed else "false"}


def _ask_git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # git is optional: its answer is one tag among others
    return done.stdout if done.returncode == 0 else None
