"""The servers that tests run against."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import psycopg

from homeostat.testing.services import S3, postgres


def test_postgres_answers_and_leaves_nothing_behind() -> None:
    with postgres() as url:
        with psycopg.connect(url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        folder = Path(url.partition("host=")[2])
        assert folder.is_dir()
    assert not folder.exists()


def test_a_table_written_to_s3_is_read_back_whole_and_in_part(s3: S3) -> None:
    table = pl.DataFrame({"a": range(100_000), "b": [0.5] * 100_000})
    url = s3.bucket("services") + "/table.parquet"
    table.write_parquet(url, storage_options=s3.options())
    assert pl.read_parquet(url, storage_options=s3.options()).equals(table)
    column = pl.scan_parquet(url, storage_options=s3.options()).select("a").tail(3).collect()
    assert column["a"].to_list() == [99_997, 99_998, 99_999]
