"""What each stage of the pipeline does: returns its verdict and its outputs, records nothing.

What a stage needs from earlier ones it reads back from their recorded outputs, so that every
stage can be a process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl

from homeostat.control.gating import ask_gates, champion_of
from homeostat.control.model import (
    Run,
)
from homeostat.control.platform import Platform
from homeostat.core.errors import BadInput, NotFound
from homeostat.core.names import Stage
from homeostat.core.verdict import Outcome, Verdict
from homeostat.core.version import NewVersion
from homeostat.data import ingest, labels, snapshots, transform, validate
from homeostat.data.features import feature_names
from homeostat.definition import code_digest, definition_digest, load_function
from homeostat.training import environment, export, fit
from homeostat.training.split import Parts, split

Progress = Callable[[str], None]


class Work:
    """The stages of one run, by name. folder: where the run keeps what it leaves."""

    def __init__(self, platform: Platform, run: Run, progress: Progress) -> None:
        self.platform, self.run, self.progress = platform, run, progress
        self.spec = platform.project.data
        self.folder = platform.home / "runs" / run.run

    def output(self, stage: Stage, name: str) -> str:
        done = self.run.stages.get(stage)
        if done is None:
            raise BadInput(
                f"stage {stage} of {self.run.run} has not been done",
                remedy=f"homeostat stage {stage} --run {self.run.run}",
            )
        return done.outputs[name]

    def table(self, stage: Stage) -> pl.DataFrame:
        key = self.output(stage, "snapshot")
        table = self.platform.snapshots.get(key)
        if table is None:
            raise NotFound(
                f"snapshot {key} of {self.run.run} is gone",
                remedy="start a new run with `homeostat run`",
            )
        return table

    def segments(self) -> list[str]:
        return [b.by for b in self.platform.project.gates.bias]

    # -- the stages: each returns its verdict and its outputs -----------------------------------

    def ingest(self) -> tuple[Verdict, dict[str, str]]:
        raw = ingest.ingest(self.spec, self.platform.root)
        known = self.platform.labels.as_known(self.run.as_of)
        raw = labels.overlay(raw, self.spec, known, self.run.as_of)
        key = snapshots.key("raw", snapshots.table_digest(raw))
        digest = self.platform.snapshots.put(key, raw)
        labelled = raw.height - raw[self.spec.label.column].null_count()
        sentence = f"{raw.height:,} rows, {labelled:,} with a label known at {self.run.as_of:%F %R}"
        outcome = Outcome.PASS if raw.height else Outcome.FAIL
        return (
            Verdict("ingest", outcome, sentence, figure=raw.height, n=raw.height),
            {"snapshot": key, "digest": digest},
        )

    def transform(self) -> tuple[Verdict, dict[str, str]]:
        code = "none"
        if self.spec.transform:
            code = code_digest(self.spec.transform, self.platform.root)
        key = snapshots.key("table", self.output(Stage.INGEST, "digest"), code)
        store = self.platform.snapshots
        table = store.get(key)
        how = "as computed before from equal rows and code"
        if table is None:
            how = "computed"
            fn = self._transform_function()
            table = transform.apply(self.table(Stage.INGEST), fn, self.spec)
            store.put(key, table)
        digest = store.digest(key) or ""
        features = feature_names(table, self.spec, self.segments())
        sentence = f"{len(features)} features of {table.height:,} rows, {how}"
        outcome = Outcome.PASS if features and table.height else Outcome.FAIL
        return (
            Verdict("transform", outcome, sentence, figure=len(features), n=table.height),
            {"snapshot": key, "digest": digest, "code": code, "features": ",".join(features)},
        )

    def validate(self) -> tuple[Verdict, dict[str, str]]:
        table = self.table(Stage.TRANSFORM)
        parts = self._split(table)
        verdict = validate.validate(
            self.table(Stage.INGEST),
            table,
            self.spec,
            features=self._features(),
            fn=self._transform_function(),
            train=parts.train,
            test=parts.test,
        )
        return verdict, {}

    def train(self) -> tuple[Verdict, dict[str, str]]:
        training, name = self.platform.project.training, self.platform.project.name
        parts, features = self._split(self.table(Stage.TRANSFORM)), self._features()
        label = self.spec.label.column
        train = fit.TrainingSet.of(parts.train, features, label, seed=training.seed)
        test = fit.TrainingSet.of(parts.test, features, label, seed=training.seed)
        self.progress(f"fitting on {len(train.y):,} rows, {int(train.y.sum()):,} positive")
        model = fit.run(load_function(training.fit, self.platform.root), train, training.params)
        score = fit.score(model, test.X)
        tested = fit.as_table(test.X, features).with_columns(
            score=pl.Series(score), label=pl.Series(test.y).cast(pl.Float64)
        )
        fitted = fit.as_table(train.X, features)
        # drawn from both at one rate, so that the reference is the whole period's traffic; in
        # stretches, so that it shows how much rows hang together
        rate = min(1.0, export.REFERENCE_ROWS / (len(train.y) + len(test.y)))
        drawn = [export.stretches(p, int(rate * p.height)) for p in (fitted, tested)]
        reference = pl.concat(drawn, how="diagonal")
        # one folder per attempt: another process that trains this run must not touch our files
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="servable-", dir=self.folder))
        manifest = export.export(
            model,
            features,
            test.X,
            folder,
            name=name,
            threshold=training.threshold,
            reference=reference,
        )
        periods = f"{parts.train_from:%F %R} to {parts.train_to:%F %R}"
        return (
            Verdict(
                "train",
                Outcome.PASS,
                f"{model.kind} on {len(train.y):,} rows of {periods}, exported to ONNX",
                n=len(train.y),
            ),
            {
                "folder": str(folder.relative_to(self.platform.home)),
                "digest": manifest.digest,
                "kind": model.kind,
                "train_rows": str(len(train.y)),
                "train_period": periods,
                "test_period": f"{parts.test_from:%F %R} to {parts.test_to:%F %R}",
            },
        )

    def evaluate(self) -> tuple[Verdict, dict[str, str]]:
        test = self._split(self.table(Stage.TRANSFORM)).test
        champion = champion_of(self.platform)
        folder = self.platform.home / self.output(Stage.TRAIN, "folder")
        verdict, figures = ask_gates(self.platform, folder, test, champion)
        return verdict, {
            "metrics": msgspec.json.encode(figures).decode(),
            "champion": champion.version if champion else "",
        }

    def register(self) -> tuple[Verdict, dict[str, str]]:
        project = self.platform.project
        folder = self.platform.home / self.output(Stage.TRAIN, "folder")
        lineage = {
            "snapshot": self.output(Stage.TRANSFORM, "digest"),
            "raw": self.output(Stage.INGEST, "digest"),
            "code": self.output(Stage.TRANSFORM, "code"),
            "fit_code": code_digest(project.training.fit, self.platform.root),
            "definition": definition_digest(project),
            "kind": self.output(Stage.TRAIN, "kind"),
            "train_period": self.output(Stage.TRAIN, "train_period"),
            "test_period": self.output(Stage.TRAIN, "test_period"),
            "parent": self.output(Stage.EVALUATE, "champion"),
            "as_of": self.run.as_of.isoformat(),
            "trigger": self.run.trigger,
            **environment.describe(self.platform.root),
        }
        version = self.platform.registry.register(
            NewVersion(
                model=project.name,
                run=self.run.run,
                folder=str(folder),
                digest=self.output(Stage.TRAIN, "digest"),
                metrics=msgspec.json.decode(
                    self.output(Stage.EVALUATE, "metrics"), type=dict[str, float]
                ),
                params={k: str(v) for k, v in project.training.params.items()},
                tags=lineage,
                gates=self.run.stages[Stage.EVALUATE].verdict,
            )
        )
        sentence = f"registered as version {version.version} of {project.name}"
        return Verdict("register", Outcome.PASS, sentence), {"version": version.version}

    # -- shared between stages ---------------------------------------------------------------

    def _features(self) -> tuple[str, ...]:
        return tuple(self.output(Stage.TRANSFORM, "features").split(","))

    def _split(self, table: pl.DataFrame) -> Parts:
        labelled = table.filter(pl.col(self.spec.label.column).is_not_null())
        # a transform may group rows; what is compared with traffic is in the order of traffic
        labelled = labelled.sort(self.spec.time, maintain_order=True)
        end = self.run.as_of - self.spec.label.matures_after
        return split(
            labelled,
            self.platform.project.training.split,
            self.spec.time,
            end=end,
            label=self.spec.label.column,
            window=self.platform.project.retraining.window,
            changed=self.run.changed,
        )

    def _transform_function(self) -> Callable[[pl.DataFrame], pl.DataFrame] | None:
        if self.spec.transform is None:
            return None
        found: Callable[[pl.DataFrame], pl.DataFrame]
        found = load_function(self.spec.transform, self.platform.root)
        return found
