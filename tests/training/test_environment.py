from __future__ import annotations

import subprocess
from pathlib import Path

from homeostat.training import environment


def test_tags_name_python_packages_and_a_digest_of_both(tmp_path: Path) -> None:
    tags = environment.describe(tmp_path)
    assert "numpy==" in tags["packages"]
    assert tags["environment"].startswith("sha256:")
    assert tags["environment"] == environment.describe(Path("/"))["environment"]
    assert all(isinstance(v, str) and len(v) < 5000 for v in tags.values())


def test_the_commit_of_the_project_folder_is_there_when_it_is_in_git(
    tmp_path: Path, monkeypatch
) -> None:
    assert "git_commit" not in environment.describe(tmp_path)

    def git(*words: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True)

    (tmp_path / "a.py").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    tags = environment.describe(tmp_path)
    assert len(tags["git_commit"]) == 40
    assert tags["git_dirty"] == "false"
    (tmp_path / "a.py").write_text("2")
    assert environment.describe(tmp_path)["git_dirty"] == "true"
    monkeypatch.setenv("PATH", "")
    assert "git_commit" not in environment.describe(tmp_path)
