"""Any two tables, compared and told: `homeostat drift` and `homeostat.drift`.

>>> import polars as pl
>>> before = pl.DataFrame({"amount": [float(i) for i in range(1000)]})
>>> drift(before, before + 500).verdict.sentence
'1 of 1 columns moved: amount'
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from homeostat.core.errors import BadInput, NotFound
from homeostat.core.verdict import Outcome
from homeostat.monitoring.column import ColumnDrift
from homeostat.monitoring.drift import DriftReport, SchemaChange, compare
from homeostat.monitoring.spec import Drift

DRAWN = 6
_WORDS = {Outcome.FAIL: "moved", Outcome.PASS: "no drift shown", Outcome.INCONCLUSIVE: "open"}


def drift(
    baseline: Any, current: Any, *, spec: Drift | None = None, alpha: float = 0.05
) -> DriftReport:
    """Compare two tables: Polars, pandas or Arrow, or paths of Parquet or CSV files.

    alpha: the chance of calling anything drifted although no column moved by more than
    `spec.min_effect`. Raises BadInput for what is no table, or an empty one; NotFound."""
    return compare(table(baseline), table(current), spec, alpha=alpha)


def table(source: Any) -> pl.DataFrame:
    """A table from whatever it is in. Raises BadInput, NotFound."""
    frame = _read(Path(source)) if isinstance(source, str | Path) else _frame(source)
    if frame.width == 0 or frame.height == 0:
        name = str(source) if isinstance(source, str | Path) else "the table"
        raise BadInput(f"{name} has no rows", expected="a table with a header and rows")
    return frame


def _frame(source: Any) -> pl.DataFrame:
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if type(source).__module__.split(".")[0] == "pandas":
        return pl.DataFrame(pl.from_pandas(source))
    if hasattr(source, "__arrow_c_stream__"):
        return pl.DataFrame(source)
    raise BadInput(
        "not a table",
        expected="a Polars, pandas or Arrow table, or the path of a Parquet or CSV file",
        found=type(source).__name__,
    )


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise NotFound(f"{path} does not exist", expected="a Parquet or CSV file")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty", expected="a table with a header and rows")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema_length=10_000, try_parse_dates=True)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BadInput(
            f"{path} cannot be read as a table", expected="Parquet or CSV", found=str(error)
        ) from error


def text(report: DriftReport) -> str:
    """Plain lines: the verdict, what changed in the schema, then the columns, most moved first."""
    lines = [report.verdict.sentence, *(change.sentence for change in report.schema)]
    lines += [c.sentence for c in report.ranked()]
    return "\n".join(lines)


def html(report: DriftReport, baseline: pl.DataFrame, current: pl.DataFrame) -> str:
    """One page that needs nothing else: no scripts, no network, light and dark, wide and narrow.

    baseline, current: the tables that were compared, for the charts."""
    from homeostat.monitoring import charts

    ranked = charts.ranked(report)
    shown = (report.drifted or report.ranked())[:DRAWN]
    # a chart of a million rows looks like one of a hundred thousand
    before, after = (t.sample(min(t.height, 100_000), seed=0) for t in (baseline, current))
    cards = [
        _card(c, charts.overlaid(before.get_column(c.column), after.get_column(c.column)))
        for c in shown
        if c.column in after.columns
    ]
    moved = len(report.drifted)
    tone = {Outcome.FAIL: "bad", Outcome.PASS: "good"}.get(report.verdict.outcome, "open")
    body = [
        f'<header class="{tone}"><h1>{_headline(report)}</h1>',
        f"<p>{escape(_lead(report))}</p></header>",
        _changes(report.schema),
        _section("Most moved", f'<figure class="wide">{ranked}</figure>{_KEY}' if ranked else ""),
        _section(
            "How they moved" if moved else "How they compare",
            _LEGEND + f'<div class="cards">{"".join(cards)}</div>' if cards else "",
        ),
        _section("Every column", _table(report)),
        _section("How to read this", _method(report)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Drift report</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _headline(report: DriftReport) -> str:
    moved, n = len(report.drifted), len(report.columns)
    if report.verdict.outcome is Outcome.FAIL:
        return f"{moved} of {n} columns moved" if moved else "The columns are not the same"
    if report.verdict.passed:
        return "No drift shown"
    return "Too few rows to tell"


def _lead(report: DriftReport) -> str:
    return (
        f"{report.rows_current:,} rows were compared with a baseline of "
        f"{report.rows_reference:,}. {report.verdict.sentence[:1].upper()}"
        f"{report.verdict.sentence[1:]}."
    )


def _changes(schema: tuple[SchemaChange, ...]) -> str:
    items = "".join(f"<li>{escape(change.sentence)}</li>" for change in schema)
    return _section("Columns that differ", f"<ul>{items}</ul>" if items else "")


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _card(column: ColumnDrift, chart: str | None) -> str:
    drawn = f"<figure>{chart}</figure>" if chart else ""
    name, said = escape(column.column), escape(_capital(_without_name(column)))
    return f"<article><h3>{name}</h3>{drawn}<p>{said}</p></article>"


def _without_name(column: ColumnDrift) -> str:
    said = column.sentence.removeprefix(f"{column.column} ")
    return said.removeprefix(f"{column.column}: ")


def _capital(said: str) -> str:
    return said[:1].upper() + said[1:]


def _table(report: DriftReport) -> str:
    rows = []
    for c in report.ranked():
        cells = [_figure(c.effect), _figure(c.low), _figure(c.psi), _p(c.p_value)]
        cells += [f"{c.nulls_reference:.1%}", f"{c.nulls_current:.1%}", f"{c.out_of_range:.1%}"]
        figures = "".join(f"<td>{cell}</td>" for cell in cells)
        mark = ' class="moved"' if c.drifted else ""
        rows.append(
            f"<tr{mark}><th>{escape(c.column)}</th><td>{_WORDS.get(c.outcome, 'open')}</td>"
            f"{figures}</tr>"
        )
    heads = ("column", "verdict", "distance", "at least", "PSI", "p", "empty before", "empty now")
    titles = "".join(f"<th>{head}</th>" for head in (*heads, "out of range"))
    body = f"<thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _p(value: float) -> str:
    return "&lt; 0.0001" if value < 0.0001 else f"{value:.4f}"


def _method(report: DriftReport) -> str:
    return (
        "<p>The distance is the largest difference between the two distribution functions (KS); "
        "for categories, the share of rows that would have to change theirs. A column has moved "
        f"when the distance is shown to exceed {report.min_effect:g}, or PSI its equivalent: not "
        "when it merely is not zero, which it never is in a large table. The chance that any "
        f"column of this page is called moved wrongly is at most {report.alpha:.1%}, however many "
        "there are; rows are taken to be independent. PSI's bound is an approximation for large "
        "samples.</p>"
    )


_KEY = (
    '<p class="note">Bar: measured distance. Tick: what it is at least. Dashed: the limit below '
    "which movement is not called drift.</p>"
)
_LEGEND = (
    '<p class="note"><i class="before"></i>baseline <i class="after"></i>current; '
    "shares of the rows</p>"
)
_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--ink:#1d2530;--soft:#667085;--line:#e4e7ec;--card:#f8f9fb;
--bad:#b54708;--good:#067647;--open:#667085}
@media(prefers-color-scheme:dark){:root{--bg:#11151b;--ink:#e4e8ee;--soft:#98a2b3;--line:#2a323d;
--card:#181e26;--bad:#f79009;--good:#47cd89;--open:#98a2b3}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1060px;margin:0 auto;padding:28px 20px 60px}
header{border-left:5px solid var(--open);padding:2px 0 2px 16px}
header.bad{border-color:var(--bad)}header.good{border-color:var(--good)}
h1{font-size:1.8rem;line-height:1.2;margin:0}header p{margin:.4rem 0 0;color:var(--soft)}
h2{font-size:1.1rem;margin:2.2rem 0 .7rem}h3{font-size:1rem;margin:0 0 .5rem}
h1,h2,h3,th,li,p{overflow-wrap:anywhere}
figure{margin:0}svg{display:block;max-width:100%;height:auto}
figure.wide svg{width:100%;max-width:640px}article figure svg{width:100%}
.cards{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr))}
article{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
article p{margin:.6rem 0 0;font-size:.88rem;color:var(--soft)}
.note{font-size:.88rem;color:var(--soft);margin:.4rem 0 .8rem}
.note i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .35em 0 .1em}
.before{background:#3b82c4}.after{background:#e07b39}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;width:100%}
td,thead th{padding:6px 10px;text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:500}
tbody th{padding:6px 10px 6px 0;text-align:left;font-weight:500;min-width:8em;
border-bottom:1px solid var(--line)}thead th:first-child{text-align:left;padding-left:0}
td:nth-child(2),thead th:nth-child(2){text-align:left}.moved td:nth-child(2){color:var(--bad);
font-weight:600}
""".replace("\n", "")
