"""The laws of a Registry. Subclass with a fixture `registry`, and name the class Test..."""

from __future__ import annotations

import itertools
from datetime import timedelta
from pathlib import Path

import pytest

from homeostat.core.errors import Damaged, NotFound
from homeostat.core.ports import Registry
from homeostat.core.servable import Manifest, file_digest
from homeostat.core.verdict import Outcome, Verdict, all_of
from homeostat.core.version import NewVersion

_fresh = itertools.count()

GATES = all_of(
    "gates",
    [
        Verdict("auc", Outcome.PASS, "AUC is 0.9", figure=0.9, threshold=0.8, low=0.8, n=100),
        Verdict("bias", Outcome.PASS, "bias is 0.01", figure=0.01, threshold=0.1, n=100),
    ],
)


def new_version(
    folder: Path, run: str, model: str | None = None, *, bytes_: bytes = b"model"
) -> NewVersion:
    """A servable in `folder` (its model is not real: a registry does not load it)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(bytes_)
    (folder / "reference.parquet").write_bytes(b"reference")
    digest = file_digest(folder / "model.onnx")
    Manifest("m", ("a", "b"), "model.onnx", digest, "probabilities", 0.5).write(folder)
    return NewVersion(
        model=model or f"model-{next(_fresh)}",
        run=run,
        folder=str(folder),
        digest=digest,
        metrics={"auc": 0.9123456789012345, "log_loss": 0.1},
        params={"epochs": "50", "solver": "l'bfgs"},
        tags={"snapshot": "sha256:abc", "parent": "", "packages": "numpy==2.4 " * 300},
        gates=GATES,
    )


class RegistryContract:
    """Every Registry passes this, on an empty store and on one that others use."""

    @pytest.fixture
    def registry(self) -> Registry:
        raise NotImplementedError("a subclass gives the registry")

    def test_an_unknown_model_has_no_versions_and_no_aliases(self, registry: Registry) -> None:
        assert registry.versions("nobody") == []
        assert registry.aliases("nobody") == {}

    @pytest.mark.parametrize("version", ["1", "99", "latest", ""])
    def test_what_does_not_exist_is_not_found(self, registry: Registry, version: str) -> None:
        with pytest.raises(NotFound):
            registry.get("nobody", version)

    def test_what_is_registered_is_read_back_exactly(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        new = new_version(tmp_path / "s", "run-1")
        made = registry.register(new)
        assert made == registry.get(new.model, "1")
        assert [made] == registry.versions(new.model)
        for field in ("model", "run", "digest", "metrics", "params", "tags", "gates"):
            assert getattr(made, field) == getattr(new, field), field
        assert made.version == "1"
        assert made.created.utcoffset() == timedelta(0)

    def test_the_servable_is_a_copy_in_a_local_folder(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        new = new_version(tmp_path / "s", "run-1")
        made = registry.register(new)
        (tmp_path / "s" / "model.onnx").write_bytes(b"changed since")
        path = Path(made.path)
        assert sorted(p.name for p in path.iterdir()) == [
            "model.onnx",
            "reference.parquet",
            "servable.json",
        ]
        assert file_digest(path / Manifest.read(path).file) == new.digest

    def test_versions_count_from_one_in_order_of_registration(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        first = new_version(tmp_path / "0", "run-0")
        registry.register(first)
        for i in range(1, 11):
            registry.register(new_version(tmp_path / str(i), f"run-{i}", first.model))
        found = registry.versions(first.model)
        assert [v.version for v in found] == [str(i) for i in range(1, 12)]
        assert [v.run for v in found] == [f"run-{i}" for i in range(11)]
        other = registry.register(new_version(tmp_path / "other", "run-0"))
        assert other.version == "1"

    def test_registering_a_run_again_gives_the_version_it_has(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        new = new_version(tmp_path / "s", "run-1")
        made = registry.register(new)
        registry.register(new_version(tmp_path / "t", "run-2", new.model))
        assert registry.register(new) == made
        assert len(registry.versions(new.model)) == 2

    def test_a_model_that_is_not_what_was_exported_is_refused(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        new = new_version(tmp_path / "s", "run-1")
        (tmp_path / "s" / "model.onnx").write_bytes(b"changed")
        with pytest.raises(Damaged):
            registry.register(new)
        (tmp_path / "s" / "servable.json").unlink()
        with pytest.raises(NotFound):
            registry.register(new)
        assert registry.versions(new.model) == []

    def test_an_alias_names_one_version_and_moves(self, registry: Registry, tmp_path: Path) -> None:
        model = registry.register(new_version(tmp_path / "1", "run-1")).model
        registry.register(new_version(tmp_path / "2", "run-2", model))
        registry.set_alias(model, "champion", "1")
        registry.set_alias(model, "challenger", "2")
        assert registry.aliases(model) == {"champion": "1", "challenger": "2"}
        registry.set_alias(model, "champion", "2")
        registry.set_alias(model, "challenger", None)
        assert registry.aliases(model) == {"champion": "2"}

    def test_taking_away_an_alias_that_is_not_set_does_nothing(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        model = registry.register(new_version(tmp_path / "1", "run-1")).model
        registry.set_alias(model, "champion", None)
        registry.set_alias("nobody", "champion", None)
        assert registry.aliases(model) == {}

    def test_an_alias_of_a_version_that_does_not_exist_is_not_found(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        model = registry.register(new_version(tmp_path / "1", "run-1")).model
        for version in ("2", "one"):
            with pytest.raises(NotFound):
                registry.set_alias(model, "champion", version)
        assert registry.aliases(model) == {}
