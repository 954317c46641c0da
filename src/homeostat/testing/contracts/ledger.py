"""The laws of LabelLedger. Subclass with a fixture `ledger`, and name the class Test..."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from homeostat.core.errors import BadInput
from homeostat.core.ports import LabelLedger
from homeostat.core.records import LABELS

T0 = datetime(2026, 1, 1, tzinfo=UTC)
Fact = tuple[str, float, int, int]  # id, label, time and known in hours after T0


def hour(n: int) -> datetime:
    return T0 + timedelta(hours=n)


def labels(*facts: Fact) -> pl.DataFrame:
    rows = [(i, label, hour(time), hour(known)) for i, label, time, known in facts]
    return pl.DataFrame(rows, schema=LABELS, orient="row")


def told(answer: pl.DataFrame) -> set[Fact]:
    """The answer as facts; each id once."""
    assert answer.schema == LABELS
    assert answer["id"].n_unique() == answer.height
    hours = [
        ((r[2] - T0) // timedelta(hours=1), (r[3] - T0) // timedelta(hours=1))
        for r in answer.iter_rows()
    ]
    return {(r[0], r[1], *h) for r, h in zip(answer.iter_rows(), hours, strict=True)}


def expected(facts: Sequence[Fact], at: int) -> set[Fact]:
    """The laws, word for word and slowly."""
    now: dict[str, Fact] = {}
    for fact in sorted(dict.fromkeys(facts), key=lambda f: f[3]):
        if fact[3] <= at and (fact[0] not in now or now[fact[0]][1] != fact[1]):
            now[fact[0]] = fact
    return set(now.values())


class LedgerContract:
    """Every LabelLedger passes this."""

    @pytest.fixture
    def ledger(self) -> LabelLedger:
        raise NotImplementedError("a subclass gives an empty ledger")

    def test_an_empty_ledger_answers_with_an_empty_table(self, ledger: LabelLedger) -> None:
        assert told(ledger.as_known(hour(9))) == set()

    def test_no_labels_are_appended_without_harm(self, ledger: LabelLedger) -> None:
        assert ledger.append(labels()) == 0

    def test_a_label_is_known_from_its_known_time_on(self, ledger: LabelLedger) -> None:
        assert ledger.append(labels(("a", 1, 0, 5))) == 1
        assert told(ledger.as_known(hour(4))) == set()
        assert told(ledger.as_known(hour(5))) == {("a", 1, 0, 5)}

    def test_a_fact_that_is_there_is_not_appended_again(self, ledger: LabelLedger) -> None:
        facts = labels(("a", 1, 0, 5), ("b", 0, 0, 5))
        assert ledger.append(facts) == 2
        assert ledger.append(pl.concat([facts, labels(("c", 0, 0, 5), ("c", 0, 0, 5))])) == 1
        assert ledger.append(facts) == 0

    def test_a_correction_counts_from_its_own_known_time(self, ledger: LabelLedger) -> None:
        ledger.append(labels(("a", 0, 0, 5)))
        ledger.append(labels(("a", 1, 0, 8)))
        assert told(ledger.as_known(hour(7))) == {("a", 0, 0, 5)}
        assert told(ledger.as_known(hour(8))) == {("a", 1, 0, 8)}

    def test_a_repetition_does_not_move_the_known_time(self, ledger: LabelLedger) -> None:
        ledger.append(labels(("a", 1, 0, 5), ("a", 1, 0, 7)))
        assert told(ledger.as_known(hour(9))) == {("a", 1, 0, 5)}

    def test_a_value_that_returns_is_known_from_its_return(self, ledger: LabelLedger) -> None:
        ledger.append(labels(("a", 1, 0, 5), ("a", 0, 0, 6), ("a", 1, 0, 7)))
        assert told(ledger.as_known(hour(9))) == {("a", 1, 0, 7)}

    def test_of_labels_known_at_one_time_the_last_to_arrive_holds(
        self, ledger: LabelLedger
    ) -> None:
        ledger.append(labels(("a", 1, 0, 5), ("b", 0, 0, 5)))
        ledger.append(labels(("a", 0, 0, 5), ("b", 1, 0, 5)))
        assert told(ledger.as_known(hour(5))) == {("a", 0, 0, 5), ("b", 1, 0, 5)}

    def test_facts_may_arrive_out_of_order(self, ledger: LabelLedger) -> None:
        ledger.append(labels(("a", 1, 0, 8)))
        ledger.append(labels(("a", 0, 0, 5)))
        assert told(ledger.as_known(hour(7))) == {("a", 0, 0, 5)}
        assert told(ledger.as_known(hour(9))) == {("a", 1, 0, 8)}

    def test_ids_narrow_the_answer(self, ledger: LabelLedger) -> None:
        ledger.append(labels(("a", 1, 0, 5), ("b", 0, 0, 5)))
        assert told(ledger.as_known(hour(9), pl.Series(["b", "none"]))) == {("b", 0, 0, 5)}
        none = pl.Series([], dtype=pl.String)
        assert told(ledger.as_known(hour(9), none)) == set()

    def test_news_are_the_facts_in_the_order_of_arrival(self, ledger: LabelLedger) -> None:
        nothing, mark = ledger.news()
        assert (nothing.height, mark) == (0, 0)
        ledger.append(labels(("b", 1, 0, 8), ("a", 0, 0, 5)))
        ledger.append(labels(("a", 0, 0, 5)))
        _, mark = ledger.news()
        ledger.append(labels(("a", 1, 0, 4)))
        ledger.append(labels(("c", 1, 0, 6), ("a", 0, 0, 9)))
        assert ledger.news()[0]["id"].to_list() == ["b", "a", "a", "c", "a"]
        new, after = ledger.news(mark)
        assert new.schema == LABELS
        assert new["known"].to_list() == [hour(4), hour(6), hour(9)]
        assert ledger.news(after)[0].is_empty()

    def test_incomplete_labels_are_refused_whole(self, ledger: LabelLedger) -> None:
        bad = labels(("a", 1, 0, 5), ("b", 0, 0, 5)).with_columns(
            label=pl.when(pl.col("id") == "a").then("label")
        )
        with pytest.raises(BadInput, match="1 without label"):
            ledger.append(bad)
        with pytest.raises(BadInput, match="known"):
            ledger.append(bad.drop("known"))
        assert told(ledger.as_known(hour(9))) == set()

    def test_any_history_gives_what_the_laws_say(self, ledger: LabelLedger) -> None:
        draw = random.Random(7)
        facts: list[Fact] = []
        for _ in range(12):
            batch: list[Fact] = [
                (draw.choice("abcdef"), float(draw.randrange(2)), draw.randrange(3), known)
                for known in draw.choices(range(12), k=draw.randrange(1, 8))
            ]
            before = len(set(facts))
            facts += batch
            assert ledger.append(labels(*batch)) == len(set(facts)) - before
        for at in range(-1, 13):
            assert told(ledger.as_known(hour(at))) == expected(facts, at)
            some = {fact for fact in expected(facts, at) if fact[0] in "bde"}
            assert told(ledger.as_known(hour(at), pl.Series(["e", "b", "d", "b"]))) == some
