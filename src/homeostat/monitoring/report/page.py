"""The drift report as one page that needs nothing else: no scripts, no network, light and dark."""

from __future__ import annotations

from html import escape
from typing import Any

import polars as pl

from homeostat.core.verdict import Outcome
from homeostat.monitoring.drift.column import ColumnDrift
from homeostat.monitoring.drift.compare import DriftReport, SchemaChange
from homeostat.monitoring.drift.source import DRAWN, Source, opened, sample
from homeostat.monitoring.drift.views import LENGTH_OF

CARDS = 9
_WORDS = {Outcome.FAIL: "moved", Outcome.PASS: "no drift shown", Outcome.INCONCLUSIVE: "open"}
_TONES = {Outcome.FAIL: "bad", Outcome.PASS: "good"}


def html(report: DriftReport, baseline: Any, current: Any) -> str:
    """The page. baseline, current: what was compared, as for `drift`; samples of it are drawn."""
    from homeostat.monitoring.report import charts

    ranked = charts.ranked(report)
    cards = []
    with opened(baseline) as first, opened(current) as second:
        for c in (report.drifted or report.ranked())[:CARDS]:
            before, after = (_values(source, c.column) for source in (first, second))
            if before is not None and after is not None:
                cards.append(_card(c, charts.overlaid(before, after)))
    body = [
        f'<header class="{_TONES.get(report.verdict.outcome, "open")}">'
        f"<h1>{_headline(report)}</h1><p>{escape(_lead(report))}</p></header>",
        _tiles(report),
        _changes(report.schema),
        _section("Most moved", f"<figure>{ranked}</figure>{_KEY}" if ranked else ""),
        _section(
            "How they moved" if report.drifted else "How they compare",
            _LEGEND + f'<div class="cards">{"".join(cards)}</div>' if cards else "",
        ),
        _section("All columns together", _together(report)),
        _section("What it cost", _cost(report)),
        _section("Slices", _slices(report)),
        _section("Data quality", _quality(report)),
        _section("Every column", _table(report)),
        _section("How to read this", _method(report)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Drift report</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def _values(source: Source, name: str) -> pl.Series | None:
    """What is drawn of a column that was compared."""
    if name in source.schema:
        return sample(source, [name], DRAWN, 0).to_series()
    text = name.removeprefix(LENGTH_OF)
    if text != name and text in source.schema:
        texts = sample(source, [text], DRAWN, 0).to_series()
        return texts.cast(pl.String).str.len_chars().alias(name)
    return None


def _headline(report: DriftReport) -> str:
    moved, n = len(report.drifted), len(report.columns)
    if report.verdict.failed and moved:
        return f"{moved} of {n} columns moved"
    if report.verdict.failed:
        quiet = any(s.change in ("missing", "type") for s in report.schema)
        return (
            "The columns are not the same" if quiet else "Moved where one column does not show it"
        )
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


def _tiles(report: DriftReport) -> str:
    moved, n = len(report.drifted), len(report.columns)
    tiles = [(f"{moved} of {n}", "columns moved", "bad" if moved else "good")]
    first = next((c for c in report.ranked() if c.effect is not None), None)
    if first is not None:
        tiles.append((f"{first.effect:.2f}", f"largest distance ({first.column})", ""))
    if report.joint is not None:
        tone = _TONES.get(report.joint.verdict.outcome, "")
        tiles.append((f"{report.joint.auc:.3f}", "AUC of telling the tables apart", tone))
    if report.harm is not None and all(report.harm.n):
        change = report.harm.after - report.harm.before
        tiles.append((f"{change:+.4f}", f"change of the {report.harm.loss}", ""))
    tiles.append((f"{report.rows_current:,}", "rows now", ""))
    return '<div class="tiles">' + "".join(
        f'<div class="tile {tone}"><b>{escape(figure)}</b><span>{escape(_short(what))}</span></div>'
        for figure, what, tone in tiles
    ) + "</div>"  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _together(report: DriftReport) -> str:
    from homeostat.monitoring.report import charts

    joint = report.joint
    if joint is None:
        return ""
    told = charts.bars([(name, share) for name, share in joint.told_by], "share of its splits")
    said = _capital(joint.verdict.sentence)
    rows = [
        ("classifier's AUC", joint.auc, joint.auc_low, joint.auc_limit),
        ("misfit to the baseline's principal components (KS)", joint.reconstruction,
         joint.reconstruction_low, report.min_effect),
        ("distance of kernel means (MMD)", joint.mmd, joint.mmd_low, joint.mmd_limit),
    ]  # fmt: skip
    lines = "".join(
        f"<tr><th>{name}</th><td>{value:.3f}</td><td>{low:.3f}</td><td>{limit:.3f}</td></tr>"
        for name, value, low, limit in rows
    )
    table = (
        '<div class="scroll"><table><thead><tr><th>seen by</th><th>measured</th><th>at least</th>'
        f"<th>limit</th></tr></thead><tbody>{lines}</tbody></table></div>"
    )
    used = ""
    if told and joint.verdict.failed:
        used = (
            f'<p class="note">What the classifier tells them apart by:</p><figure>{told}</figure>'
        )
    n, m = joint.n
    note = f'<p class="note">On a sample of {n:,} and {m:,} rows.</p>'
    return f"<p>{escape(said)}.</p>{table}{note}{used}"


def _cost(report: DriftReport) -> str:
    from homeostat.monitoring.report import charts

    if report.harm is None:
        return ""
    parts = [(p.column, p.moved) for p in report.harm.parts if abs(p.moved) > 0][:10]
    chart = charts.bars(parts, f"change of the {report.harm.loss} by the column's movement")
    figure = f"<figure>{chart}</figure>" if chart else ""
    note = (
        '<p class="note">Each bar is a question by itself: how much the mean loss would have '
        "changed had only this column moved. They overlap and do not add up.</p>"
    )
    return f"<p>{escape(_capital(report.harm.sentence))}.</p>{figure}{note}"


def _slices(report: DriftReport) -> str:
    if not report.slices:
        return ""
    rows = []
    for s in report.slices:
        moved = ", ".join(c.column for c in s.columns[:5])
        mark = ' class="moved"' if s.columns else ""
        rows.append(
            f"<tr{mark}><th>{escape(s.slice)}</th>"
            f"<td>{_WORDS.get(s.verdict.outcome, 'open')}</td><td>{s.rows_reference:,}</td>"
            f"<td>{s.rows_current:,}</td><td>{escape(moved)}</td></tr>"
        )
    heads = "".join(f"<th>{h}</th>" for h in ("slice", "verdict", "rows before", "now", "moved"))
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _quality(report: DriftReport) -> str:
    """What is odd about the values themselves, as sentences."""
    said = []
    for c in report.columns:
        change = c.nulls_current - c.nulls_reference
        if abs(change) >= 0.01:
            said.append(
                (abs(change), f"{c.column} is empty in {c.nulls_current:.1%} of the rows, "
                 f"before in {c.nulls_reference:.1%}")
            )  # fmt: skip
        if c.out_of_range >= 0.01:
            what = "beyond the baseline's range" if c.kind == "numeric" else "categories never seen"
            said.append((c.out_of_range, f"{c.out_of_range:.1%} of {c.column} are {what}"))
    said.sort(key=lambda s: (-s[0], s[1]))
    if not said:
        return "<p>No column is emptier than it was, and no values are where none were before.</p>"
    items = "".join(f"<li>{escape(text)}</li>" for _, text in said[:20])
    return f"<ul>{items}</ul>"


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
        js, w = c.measures.get("js"), c.measures.get("wasserstein")
        cells = [_figure(c.effect), _figure(c.low), _figure(c.psi), _figure(js), _figure(w)]
        cells += [_p(c.p_value)]
        cells += [f"{c.nulls_reference:.1%}", f"{c.nulls_current:.1%}", f"{c.out_of_range:.1%}"]
        figures = "".join(f"<td>{cell}</td>" for cell in cells)
        mark = ' class="moved"' if c.drifted else ""
        rows.append(
            f"<tr{mark}><th>{escape(c.column)}</th><td>{_WORDS.get(c.outcome, 'open')}</td>"
            f"{figures}</tr>"
        )
    heads = (
        "column",
        "verdict",
        "distance",
        "at least",
        "PSI",
        "JS",
        "Wasserstein",
        "p",
        "empty before",
        "empty now",
    )
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
        "when it merely is not zero, which it never is in a large table. The chance that anything "
        f"on this page is called moved wrongly is at most {report.alpha:.1%}, however many columns "
        "there are; rows are taken to be independent. PSI's bound is an approximation for large "
        "samples. Of instants the hour of the day is compared, because clocks go on; of long "
        "texts the length. JS is the Jensen-Shannon distance (0 to 1), Wasserstein is in standard "
        "deviations of the baseline.</p>"
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
figure{margin:0;overflow-x:auto}svg{display:block;max-width:640px;width:100%;height:auto}
figure svg{min-width:480px}article figure svg{min-width:0;max-width:none}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:1.4rem 0 0}
.tile{flex:1 1 150px;background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:12px 16px}.tile b{display:block;font-size:1.5rem;line-height:1.2;
font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:.85rem;
overflow-wrap:anywhere}.tile.bad b{color:var(--bad)}.tile.good b{color:var(--good)}
.cards{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr))}
article{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
article p{margin:.6rem 0 0;font-size:.88rem;color:var(--soft)}
.note{font-size:.88rem;color:var(--soft);margin:.4rem 0 .8rem}
.note i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .35em 0 .1em}
.before{background:#3b82c4}.after{background:#e07b39}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;width:100%}
td,thead th{padding:6px 7px;text-align:right;white-space:nowrap;
font-variant-numeric:tabular-nums;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:500}
tbody th{padding:6px 10px 6px 0;text-align:left;font-weight:500;min-width:8em;
border-bottom:1px solid var(--line)}thead th:first-child{text-align:left;padding-left:0}
td:nth-child(2),thead th:nth-child(2){text-align:left}.moved td:nth-child(2){color:var(--bad);
font-weight:600}
""".replace("\n", "")
