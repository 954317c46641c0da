"""The laws of a Notifier. Subclass with the fixtures below, and name the class Test..."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from homeostat.core.errors import Unavailable
from homeostat.core.ports import Notice, Notifier

AT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
TEXT = 'auc is 0.5 <b>"now"</b> – ünïcode'
SINCE = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NOTICE = Notice("quality@x", "harm", TEXT, "critical", AT, "fraud-detector", SINCE)


class NotifierContract:
    """Every Notifier passes this. `told` gives the titles of what people were told, oldest first;
    `outage` takes down what the notifier tells."""

    @pytest.fixture
    def notifier(self) -> Notifier:
        raise NotImplementedError("a subclass gives the notifier")

    @pytest.fixture
    def told(self) -> Callable[[], list[str]]:
        raise NotImplementedError("a subclass gives what arrived")

    @pytest.fixture
    def outage(self) -> Callable[[], None]:
        raise NotImplementedError("a subclass can fail")

    def test_a_notice_arrives(self, notifier: Notifier, told: Callable[[], list[str]]) -> None:
        notifier.send(NOTICE)
        assert told() == ["harm"]

    def test_a_notice_may_be_repeated(
        self, notifier: Notifier, told: Callable[[], list[str]]
    ) -> None:
        notifier.send(NOTICE)
        notifier.send(NOTICE)
        assert told() == ["harm", "harm"]

    def test_what_cannot_be_told_raises_unavailable(
        self, notifier: Notifier, outage: Callable[[], None]
    ) -> None:
        outage()
        with pytest.raises(Unavailable):
            notifier.send(NOTICE)

    def test_renewing_tells_nobody_anything_new(
        self, notifier: Notifier, told: Callable[[], list[str]]
    ) -> None:
        notifier.send(NOTICE)
        for _ in range(3):
            notifier.renew([NOTICE])
        notifier.renew([])
        assert set(told()) == {"harm"}
