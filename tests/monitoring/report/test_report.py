"""The drift report: any two tables, one page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest

from homeostat.core.errors import BadInput, NotFound
from homeostat.monitoring.drift.compare import DriftReport
from homeostat.monitoring.report import charts
from homeostat.monitoring.report.page import html
from homeostat.monitoring.report.report import drift, text

NASTY = "</style><script>alert('1')</script>&\"x\""


def frames(n: int = 800) -> tuple[pl.DataFrame, pl.DataFrame]:
    random = np.random.default_rng(0)
    before = pl.DataFrame(
        {
            "amount": random.gamma(2, 30, n),
            NASTY: random.normal(size=n),
            "country": random.choice(["de", "fr", NASTY], n),
            "at": pl.Series(np.arange(n)).cast(pl.Datetime("us")),
            "constant": np.ones(n),
            "empty": pl.Series([None] * n, dtype=pl.Float64),
            "wild": np.where(np.arange(n) % 2, np.inf, np.nan),
        }
    )
    return before, before.with_columns(pl.col("amount") * 3, pl.col(NASTY) + 2)


class Page(HTMLParser):
    """Collects tags and addresses, and that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("href", "src", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_page_is_whole_offline_and_names_are_only_text() -> None:
    before, after = frames()
    report = drift(before, after)
    page = Page()
    page.feed(html(report, before, after))
    assert page.open == []
    assert page.links == []
    assert "script" not in page.tags
    assert page.tags.count("svg") >= 3


def test_every_kind_of_table_gives_the_same_report(tmp_path: Path) -> None:
    before, after = (f.select("amount", "country") for f in frames())
    report = drift(before, after)
    assert drift(before.to_arrow(), after.to_arrow()) == report
    pandas = [pd.DataFrame({c: f[c].to_list() for c in f.columns}) for f in (before, after)]
    assert drift(*pandas) == report
    paths = [tmp_path / "before.parquet", tmp_path / "after.csv"]
    before.write_parquet(paths[0])
    after.write_csv(paths[1])
    assert drift(*paths) == report
    assert drift(*map(str, paths)) == report


def test_the_report_is_json_and_plain_text() -> None:
    report = drift(*frames())
    assert msgspec.json.decode(msgspec.json.encode(report), type=DriftReport) == report
    assert text(report).startswith("2 of 7 columns moved")


@pytest.mark.parametrize("content", ["", "a,b\n"])
def test_an_empty_file_is_bad_input(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(BadInput, match="x.csv"):
        drift(path, path)


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "x.parquet"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(BadInput, match="cannot be read"):
        drift(broken, broken)
    with pytest.raises(NotFound):
        drift(tmp_path / "none.csv", broken)
    with pytest.raises(BadInput, match="not a table"):
        drift(3, 4)


def test_texts_that_begin_alike_are_bars_of_their_own() -> None:
    names = charts._distinct(["a" * 30, "b", "a" * 40])
    assert len(set(names.values())) == 3
    assert list(names) == ["a" * 30, "b", "a" * 40]
