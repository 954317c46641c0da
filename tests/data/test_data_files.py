"""Sources: what can be read, and the sentence for what cannot."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput, NotFound
from homeostat.data.ingest import fingerprint, ingest
from homeostat.data.label_files import read_label_file
from homeostat.data.spec import DataSpec, Label
from homeostat.testing import services

CSV = "id,at,x,y\n2,2026-01-02T00:00:00,1.5,0\n1,2026-01-01,2.5,1\n"
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def spec(source: str, query: str | None = None) -> DataSpec:
    return DataSpec(source, "at", "id", Label("y", Duration.parse("7d")), query=query)


@pytest.fixture
def rows(tmp_path: Path) -> pl.DataFrame:
    (tmp_path / "rows.csv").write_text(CSV)
    return ingest(spec("rows.csv"), tmp_path)


def test_rows_come_in_the_order_of_time_in_utc(rows: pl.DataFrame) -> None:
    assert rows["id"].to_list() == [1, 2]
    assert rows["at"].to_list() == [datetime(2026, 1, d, tzinfo=UTC) for d in (1, 2)]


def test_parquet_globs_and_folders_give_the_same_rows(tmp_path: Path, rows: pl.DataFrame) -> None:
    (tmp_path / "in").mkdir()
    rows.head(1).write_parquet(tmp_path / "in" / "a.parquet")
    rows.tail(1).write_parquet(tmp_path / "in" / "b.parquet")
    assert_frame_equal(ingest(spec("in/*.parquet"), tmp_path), rows)
    assert_frame_equal(ingest(spec("in"), tmp_path), rows)


def test_a_query_on_sqlite_gives_the_same_rows(tmp_path: Path, rows: pl.DataFrame) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'rows.db'}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table t (id int, at text, x real, y int)"))
        insert = sqlalchemy.text("insert into t values (:id, :at, :x, :y)")
        for row in rows.iter_rows(named=True):
            connection.execute(insert, {**row, "at": row["at"].isoformat()})
    engine.dispose()
    assert_frame_equal(ingest(spec("sqlite:///rows.db", "select * from t"), tmp_path), rows)
    assert fingerprint(spec("sqlite:///rows.db", "select * from t"), tmp_path) is None
    with pytest.raises(BadInput, match="the query fails.*no such table"):
        ingest(spec("sqlite:///rows.db", "select * from none"), tmp_path)


@pytest.mark.slow
def test_objects_on_s3_give_the_same_rows(
    tmp_path: Path, rows: pl.DataFrame, s3: services.S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    url = s3.bucket("ingest")
    for n in (0, 1):
        rows.slice(n, 1).write_parquet(f"{url}/in/{n}.parquet", storage_options=s3.options())
    assert_frame_equal(ingest(spec(f"{url}/in/*.parquet"), tmp_path), rows)
    assert fingerprint(spec(f"{url}/in"), tmp_path)
    with pytest.raises(NotFound, match=r"did you mean '1.parquet'"):
        ingest(spec(f"{url}/in/11.parquet"), tmp_path)


def test_the_fingerprint_follows_the_content(tmp_path: Path, rows: pl.DataFrame) -> None:
    before = fingerprint(spec("rows.csv"), tmp_path)
    assert before == fingerprint(spec("rows.csv"), tmp_path)
    (tmp_path / "rows.csv").write_text(CSV + "3,2026-01-03,1,0\n")
    assert fingerprint(spec("rows.csv"), tmp_path) != before


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"id,at,x,y\n", "there are no rows"),
        (b"id,att,x,y\n1,2026-01-01,1,0\n", "no time column 'at'.*did you mean 'att'"),
        (b"idd,at,x,y\n1,2026-01-01,1,0\n", "no key column 'id'.*did you mean 'idd'"),
        (b"id,at,x,y\n1,17,1,0\n", "'at' is not a time.*Int64"),
        (b"id,at,x,y\n1,soon,1,0\n", "no readable time.*'soon' in row 1"),
        (b"id,at,x,y\n1,2026-01-01,1,0,9,9\n", "cannot be read as CSV"),
    ],
)
def test_a_bad_csv_is_told_in_one_line(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(BadInput, match=told) as caught:
        ingest(spec("bad.csv"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told_with_its_neighbour(tmp_path: Path, rows: pl.DataFrame) -> None:
    with pytest.raises(NotFound, match=r"did you mean 'rows.csv'"):
        ingest(spec("row.csv"), tmp_path)


def test_a_broken_parquet_and_files_that_differ_are_told(
    tmp_path: Path, rows: pl.DataFrame
) -> None:
    rows.write_parquet(tmp_path / "a.parquet")
    rows.rename({"x": "z"}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(BadInput, match=r"b.parquet.*lacks x; has also z"):
        ingest(spec("*.parquet"), tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"junk" * 9)
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        ingest(spec("b.parquet"), tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "id,label,known\na,1,2026-01-02\nb,False,2026-01-03\n"),
        (
            "l.jsonl",
            '{"id":"a","label":1,"known":"2026-01-02"}\n'
            '{"id":"b","label":false,"known":"2026-01-03"}\n',
        ),
    ],
)
def test_a_label_file_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    labels = read_label_file(tmp_path / name, NOW)
    assert labels["id"].to_list() == ["a", "b"]
    assert labels["label"].to_list() == [1.0, 0.0]
    assert labels["known"].to_list() == [datetime(2026, 1, d, tzinfo=UTC) for d in (2, 3)]
    assert labels["time"].to_list() == [NOW, NOW]


def test_all_mistakes_of_a_label_file_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id,label,known\n,1,2026-01-01\na,maybe,2026-01-01\nb,1,2027-01-01\n")
    with pytest.raises(BadInput) as caught:
        read_label_file(path, NOW)
    line = str(caught.value)
    assert "3 mistakes" in line
    for told in ("row 1: no id", "row 2: label 'maybe' is not 0 or 1", "row 3: known", "future"):
        assert told in line
