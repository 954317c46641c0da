"""drift on any two tables; labels from a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from homeostat.cli import main as cli
from homeostat.cli.files import read_labels, read_table
from homeostat.core.errors import BadInput, NotFound
from homeostat.core.records import LABELS

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    random = np.random.default_rng(1)
    for name, shift in (("before", 0.0), ("after", 0.8)):
        pl.DataFrame(
            {"moved": random.normal(shift, 1, 2000), "same": random.normal(0, 1, 2000)}
        ).write_csv(tmp_path / f"{name}.csv")
    return tmp_path / "before.csv", tmp_path / "after.csv"


def test_drift_is_exit_code_1_and_names_the_column(
    tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["drift", *map(str, tables)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[:2] == ["moved", "yes"]
    assert printed[2].split()[:2] == ["same", "no"]
    assert printed[-1].startswith("fail: ")


def test_no_drift_is_exit_code_0(
    tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["drift", *map(str, tables), "--columns", "same", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["outcome"] == "pass"


def test_a_column_that_is_not_there_is_bad_input(tables: tuple[Path, Path]) -> None:
    assert cli.run(["drift", *map(str, tables), "--columns", "sam"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "x,y\n", "no rows"),
        ("a.parquet", "not parquet", "cannot be read as parquet"),
        ("a.json", "{", "cannot be read as json"),
        ("a.xls", "x", "expected .parquet or .csv"),
    ],
)
def test_a_file_that_is_no_table_is_told(
    tmp_path: Path, name: str, content: str, says: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput) as caught:
        read_table(tmp_path / name)
    assert says in caught.value.line()


def test_a_misspelt_file_is_found(tables: tuple[Path, Path]) -> None:
    with pytest.raises(NotFound, match=r"did you mean `before.csv`\?"):
        read_table(tables[0].with_name("befor.csv"))


def labels(tmp_path: Path, text: str) -> pl.DataFrame:
    (tmp_path / "labels.csv").write_text(text)
    return read_labels(tmp_path / "labels.csv", NOW)


def test_labels_are_read_into_the_columns_of_the_ledger(tmp_path: Path) -> None:
    rows = labels(tmp_path, "id,label,time\n7,1,2026-02-01T00:00:00Z\n8,0,\n")
    assert dict(rows.schema) == LABELS
    assert rows["id"].to_list() == ["7", "8"]
    assert rows["time"].to_list() == [datetime(2026, 2, 1, tzinfo=UTC), NOW]
    assert rows["known"].to_list() == [NOW, NOW]


def test_a_time_without_a_zone_is_utc(tmp_path: Path) -> None:
    rows = labels(tmp_path, "id,label,time\n7,1,2026-02-01 10:00:00\n")
    assert rows["time"][0] == datetime(2026, 2, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ID,label\n1,1\n", "no column `id`"),
        ("id,lable\n1,1\n", "did you mean `lable`?"),
        ("id,label\n1,1\n2,2\n", "row 2"),
        ("id,label\n1,fraud\n", "found id 1, label 'fraud'"),
        ("id,label\n1,\n", "row 1"),
        ("id,label,time\n1,1,yesterday\n", "'yesterday'"),
        ("id,label,time\n1,1,12\n", "`time` has to be a time"),
    ],
)
def test_wrong_labels_are_refused_as_a_whole(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        labels(tmp_path, text)
    assert says in caught.value.line()


def test_drift_prints_json_and_markdown(
    tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["drift", *map(str, tables), "--no-joint", "--tests", "wasserstein,js"]
    assert cli.run([*words, "--format", "md"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("**fail**: 1 of 2 columns moved: moved")
    assert "| moved | yes |" in printed
    assert cli.run([*words, "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [t["test"] for t in found["columns"][0]["tests"]] == ["wasserstein", "js"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tests", "kstest"], "--tests names no such test"),
        (["--by", "nowhere"], "no column 'nowhere'"),
        (["--prediction", "moved", "--label", "nowhere"], "no column 'nowhere'"),
        (["--alpha", "2"], "alpha is a probability; expected 0 < alpha < 1, found 2.0"),
        (["--by", "moved"], "the rows of 'moved' cannot be compared value by value"),
        (["--label", "moved"], "add --prediction COLUMN"),
        (["--format", "xml"], "xml"),
    ],
)
def test_what_drift_cannot_do_is_one_line(
    tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert cli.run(["drift", *map(str, tables), *words]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert says in told
    assert "\n" not in told
