from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from homeostat.core.errors import NotFound
from homeostat.core.verdict import Outcome, Verdict
from homeostat.core.version import Version
from homeostat.registry.lineage import Lineage, lineage, live_at, periods, text

START = datetime(2026, 1, 1, tzinfo=UTC)


def day(n: int) -> datetime:
    return START + timedelta(days=n)


def version(number: int, parent: str = "", **tags: str) -> Version:
    return Version(
        model="fraud",
        version=str(number),
        run=f"run-{number}",
        created=day(number),
        path="",
        digest="sha256:" + "0" * 64,
        metrics={"auc": 0.9},
        params={"depth": "3"},
        tags={"parent": parent, "snapshot": "sha256:" + "a" * 64, "code": "c1"} | tags,
        gates=Verdict("gates", Outcome.PASS, "fine", n=10),
    )


VERSIONS = [
    version(1),
    version(2, "1", snapshot="sha256:" + "b" * 64),
    version(3, "1", code="c2"),
    version(4, "3", code="c2"),
]
HISTORY = [(day(1), "1"), (day(5), "3"), (day(6), "1"), (day(8), None), (day(9), "4")]


def test_a_tree_goes_from_the_version_over_its_parents_to_the_first() -> None:
    tree = lineage("4", VERSIONS, HISTORY)
    assert (tree.version, tree.parent.version, tree.parent.parent.version) == ("4", "3", "1")
    assert tree.parent.parent.parent is None
    assert tree.parent.parent.children == ("2", "3")


def test_what_differs_from_the_parent_is_named() -> None:
    assert lineage("2", VERSIONS).changed == ("data",)
    assert lineage("3", VERSIONS).changed == ("transform code",)
    assert lineage("1", VERSIONS).changed == ()


def test_what_was_live_when() -> None:
    assert live_at(day(0), HISTORY) is None
    assert live_at(day(1), HISTORY) == "1"
    assert live_at(day(5), HISTORY) == "3"
    assert live_at(day(8), HISTORY) is None
    assert live_at(day(100), HISTORY) == "4"
    spans = [(p.since, p.until) for p in periods("1", HISTORY)]
    assert spans == [(day(1), day(5)), (day(6), day(8))]
    assert [(p.since, p.until) for p in periods("4", HISTORY)] == [(day(9), None)]
    assert periods("2", HISTORY) == ()


def test_an_unknown_version_is_not_found_and_the_known_are_named() -> None:
    with pytest.raises(NotFound, match="versions 1, 2, 3, 4"):
        lineage("9", VERSIONS)


def test_a_parent_that_is_gone_ends_the_tree_and_a_loop_is_cut() -> None:
    assert lineage("4", [VERSIONS[3]]).parent is None
    assert lineage("1", [version(1, "2"), version(2, "1")]).parent.parent is None


def test_the_text_shows_each_version_its_origin_and_when_it_was_live() -> None:
    shown = text(lineage("3", VERSIONS, HISTORY))
    assert shown.splitlines()[0] == "fraud version 3, registered 2026-01-04 00:00 UTC"
    assert "└─ fraud version 1" in shown
    assert "* transform code  c2" in shown
    assert "sha256:aaaaaaaaaaaa\n" in shown
    assert "live            2026-01-06 00:00 to 2026-01-07 00:00" in shown
    assert "differs from the version it was compared with" in shown


def test_the_tree_is_json() -> None:
    tree = lineage("4", VERSIONS, HISTORY)
    assert msgspec.json.decode(msgspec.json.encode(tree), type=Lineage) == tree
