"""What is wrong with the input is said in a line, with an exit code, and nothing is registered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from homeostat.cli import main as cli

DATA = "data/transactions.parquet"


def table(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Path], None]:
    """Damage the table."""

    def damage(project: Path) -> None:
        change(pl.read_parquet(project / DATA)).write_parquet(project / DATA)

    return damage


def file(content: bytes) -> Callable[[Path], None]:
    """Put something else in the table's place."""
    return lambda project: (project / DATA).write_bytes(content) and None


def text(name: str, old: str, new: str) -> Callable[[Path], None]:
    """Change a word in a file of the project."""

    def damage(project: Path) -> None:
        before = (project / name).read_text()
        assert old in before
        (project / name).write_text(before.replace(old, new, 1))

    return damage


def without_rows(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.clear()


def half_of(path: Path) -> None:
    (path / DATA).write_bytes((path / DATA).read_bytes()[:20_000])


LABEL = pl.col("TX_FRAUD")
CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "malformed YAML": (text("homeostat.yaml", "data:", "data: ["), "homeostat.yaml"),
    "an unknown key": (text("homeostat.yaml", "matures_after", "matures_aftr"), "matures_after"),
    "an unknown section": (text("homeostat.yaml", "gates:", "gatess:"), "gates"),
    "a wrong type": (text("homeostat.yaml", "bake: 10m", "bake: soon"), "10m"),
    "no such function": (text("homeostat.yaml", "fit: fraud:fit", "fit: fraud:fitt"), "fit"),
    "a function that does not import": (text("fraud.py", "import polars", "import polrs"), "polrs"),
    "a function that fails": (
        text("fraud.py", "one = amount", "one = 1 / 0 * amount"),
        "ZeroDivisionError|division by zero",
    ),
    "a fit that fails": (
        text("fraud.py", "return model.fit(train.X, train.y)", "return model.fitt(train.X)"),
        "fitt",
    ),
    "a fit that returns nothing": (
        text("fraud.py", "return model.fit(train.X, train.y)", "model.fit(train.X, train.y)"),
        "None|predict_proba",
    ),
    "no data": (lambda project: (project / DATA).unlink(), "transactions.parquet"),
    "an empty file": (file(b""), "transactions.parquet"),
    "text instead of Parquet": (file(b"a,b\n1,2\n" * 10), "transactions.parquet"),
    "a file cut short": (half_of, "transactions.parquet"),
    "a table without rows": (table(without_rows), "row"),
    "a missing column": (table(lambda t: t.drop("TX_AMOUNT")), "TX_AMOUNT"),
    "no time column": (table(lambda t: t.drop("TX_DATETIME")), "TX_DATETIME"),
    "no key column": (table(lambda t: t.drop("TRANSACTION_ID")), "TRANSACTION_ID"),
    "no labels": (table(lambda t: t.with_columns(TX_FRAUD=pl.lit(None, pl.Int8))), "label"),
    "one class": (table(lambda t: t.with_columns(TX_FRAUD=pl.lit(0, pl.Int8))), "class"),
    "labels that are not 0 or 1": (table(lambda t: t.with_columns(LABEL * 2)), "TX_FRAUD|label"),
    "text for a number": (
        table(lambda t: t.with_columns(TX_AMOUNT=pl.lit("many"))),
        "TX_AMOUNT|number|numeric|str",
    ),
    "nulls where they are forbidden": (
        table(lambda t: t.with_columns(TX_AMOUNT=pl.lit(None, pl.Float64))),
        "null",
    ),
    "a value out of range": (table(lambda t: t.with_columns(-pl.col("TX_AMOUNT"))), "TX_AMOUNT"),
    "keys that repeat": (table(lambda t: pl.concat([t, t.head(10)])), "TRANSACTION_ID|duplicate"),
    "the label among the features": (
        text("fraud.py", "(amount / mean)", "(pl.col('TX_FRAUD') * 1.0)"),
        "leak|label",
    ),
    "too few rows": (table(lambda t: t.tail(400)), "row"),
    "a history too short for the split": (
        text("homeostat.yaml", "gap: 7d", "gap: 365d"),
        "split|train",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_run_says_what_is_wrong_and_registers_nothing(
    name: str, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damage, says = CASES[name]
    damage(project)
    code = cli.run(["-C", str(project), "run"])
    out, err = capfd.readouterr()
    told = out + err
    assert code in (1, 2), told
    assert "Traceback" not in told
    assert any(_found(pattern, told) for pattern in says.split("|")), told
    if code == 2:
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert errors, told
    assert not list(project.glob(".homeostat/artifacts/**/model.onnx"))


def _found(words: str, told: str) -> bool:
    return words.lower() in told.lower()


@pytest.mark.parametrize("words", [["status"], ["history"], ["run", "--run", "run-9"]])
def test_a_command_before_anything_was_done_is_answered(
    words: list[str], project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["-C", str(project), *words]) in (0, 2)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_folder_without_a_project_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["-C", str(tmp_path), "run"]) == 2
    assert "homeostat init" in capfd.readouterr().err
