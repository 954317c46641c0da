"""The demo's stream of card payments: customers, terminals and fraudsters who change tactics.

Own generator, no data of anybody. A row is what a payment processor sends with a payment: the
payment itself and the running figures the processor keeps about the card and the terminal
(payments in the last hour, distance from home, ...). Those figures are drawn from the
distributions of the scenario, they are not recomputed from the stream's own past: that makes
every hour of the world independent of every other, so the same rows come out however time is
cut.

Fraudsters' tactics:

- `night`: a stolen card, large amounts at terminals new to the card, far away, at local night;
- `skimmed`: usual amounts at a terminal that is already known for fraud;
- `quiet`: like the customer's own payments; nobody can tell them apart;
- `drip`: many small online payments in a row, by day, at merchants set up lately.

From `shift_at` on nearly all `night` and `skimmed` fraud becomes `drip`, and customers spend more,
later in the day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.core.records import TIME
from homeostat.demo.population import HOURS, Customers, Terminals

HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SCHEMA: dict[str, pl.DataType] = {
    "TRANSACTION_ID": pl.String(),
    "TX_DATETIME": TIME,
    "CUSTOMER_ID": pl.Int64(),
    "TERMINAL_ID": pl.Int64(),
    "TX_AMOUNT": pl.Float64(),  # cents, as card networks send it
    "LOCAL_HOUR": pl.Float64(),  # 0 to 24, where the customer lives
    "CARD_PRESENT": pl.Int8(),  # 0: online
    "DISTANCE_KM": pl.Float64(),  # of the terminal (online: of the device) from home
    "NEW_TERMINAL": pl.Int8(),  # 1: the card was never used there
    "CUSTOMER_MEAN_AMOUNT": pl.Float64(),  # cents, last 30 days
    "CUSTOMER_COUNT_1H": pl.Int64(),  # payments in the hour before
    "CUSTOMER_COUNT_1D": pl.Int64(),  # payments in the day before
    "SECONDS_SINCE_LAST": pl.Float64(),
    "TERMINAL_RISK": pl.Float64(),  # share reported as fraud, as known at the time
    "TERMINAL_AGE_DAYS": pl.Float64(),
    "TX_FRAUD": pl.Int8(),
}


@dataclass(frozen=True)
class Habits:
    """How customers pay: `more` times their usual amounts, around the local hour `peak`."""

    more: float
    peak: float


@dataclass(frozen=True)
class Tactics:
    """Shares of the fraudulent payments; they sum to 1."""

    night: float
    skimmed: float
    drip: float
    quiet: float

    def draw(self, rng: np.random.Generator, n: int) -> dict[str, int]:
        names = ("night", "skimmed", "drip", "quiet")
        counts = rng.multinomial(n, [getattr(self, name) for name in names])
        return dict(zip(names, map(int, counts), strict=True))


BEFORE = (Habits(more=1.0, peak=14.0), Tactics(night=0.65, skimmed=0.25, drip=0.0, quiet=0.10))
AFTER = (Habits(more=1.6, peak=17.5), Tactics(night=0.27, skimmed=0.12, drip=0.51, quiet=0.10))

Columns = dict[str, NDArray[Any]]


class World:
    """A seeded stream of card payments, `per_hour` of them on average, for all of time.

    seed: everything follows from it. shift_at: a whole UTC hour from which the world is another
    one; None: never. fraud: share of the payments. Raises BadInput for a shift_at off the hour.

    >>> day = datetime(2026, 1, 1, tzinfo=UTC)
    >>> World(7).transactions(day, day + HOUR).equals(World(7).transactions(day, day + HOUR))
    True
    """

    def __init__(
        self,
        seed: int,
        *,
        per_hour: float = 600.0,
        shift_at: datetime | None = None,
        fraud: float = 0.03,
        customers: int = 4000,
        terminals: int = 2000,
    ) -> None:
        if shift_at is not None and (shift_at - EPOCH) % HOUR:
            raise BadInput("the shift is not on the hour", found=shift_at.isoformat())
        self.seed, self.per_hour, self.shift_at, self.fraud = seed, per_hour, shift_at, fraud
        rng = np.random.default_rng([seed, 0])
        self._customers = Customers.draw(rng, customers)
        self._terminals = Terminals.draw(rng, terminals)
        self._risky = np.argsort(self._terminals.risk)[-max(10, terminals // 20) :]
        self._young = np.argsort(self._terminals.age)[: max(10, terminals // 10)]
        self._hour = lru_cache(maxsize=64)(self._generate)

    def transactions(self, since: datetime, until: datetime) -> pl.DataFrame:
        """Payments with since <= TX_DATETIME < until, in order of time; columns as in SCHEMA."""
        parts = [self._hour(hour) for hour in _hours(since, until)]
        rows = pl.concat(parts) if parts else pl.DataFrame(schema=SCHEMA)
        return rows.filter(pl.col("TX_DATETIME") >= since, pl.col("TX_DATETIME") < until)

    def _generate(self, hour: int) -> pl.DataFrame:
        """All payments of the hour that starts `hour` hours after the epoch."""
        start = EPOCH + hour * HOUR
        rng = np.random.default_rng([self.seed, 1, hour])
        shifted = self.shift_at is not None and start >= self.shift_at
        habits, tactics = AFTER if shifted else BEFORE
        counts = tactics.draw(rng, int(rng.poisson(self.per_hour * self.fraud)))
        quiet = counts["quiet"]
        honest = int(rng.poisson(self.per_hour * (1 - self.fraud))) + quiet
        parts = [
            self._honest(rng, honest, start, habits, quiet),
            self._night(rng, counts["night"], start, habits),
            self._skimmed(rng, counts["skimmed"], start, habits),
            self._drip(rng, counts["drip"], start, habits),
        ]
        rows = pl.concat(pl.DataFrame(part) for part in parts).sort("TX_DATETIME")
        number = pl.int_range(pl.len()).cast(pl.String)
        rows = rows.with_columns(
            pl.concat_str(pl.lit(f"{hour}-"), number).alias("TRANSACTION_ID"),
            pl.from_epoch("TX_DATETIME", "us").dt.replace_time_zone("UTC"),
            pl.col("TX_AMOUNT", "CUSTOMER_MEAN_AMOUNT").clip(lower_bound=50).round(0),
            pl.col("SECONDS_SINCE_LAST").round(0),
            pl.col("DISTANCE_KM", "TERMINAL_AGE_DAYS", "LOCAL_HOUR").round(2),
            pl.col("TERMINAL_RISK").round(4),
        )
        return rows.select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())

    def _honest(
        self, rng: np.random.Generator, n: int, start: datetime, habits: Habits, stolen: int
    ) -> Columns:
        """Customers' own payments; the first `stolen` of them are quiet fraud."""
        rows = self._usual(rng, n, start, habits, peak=habits.peak, focus=1.1)
        # some travel, and spend more there, at any hour; some buy in bursts
        away = rng.random(n) < 0.04
        rows["DISTANCE_KM"] = np.where(away, rng.gamma(2.0, 150, n), rows["DISTANCE_KM"])
        rows["NEW_TERMINAL"] = np.where(away, rng.random(n) < 0.8, rows["NEW_TERMINAL"])
        rows["TX_AMOUNT"] = np.where(away, 1.5, 1.0) * rows["TX_AMOUNT"]
        burst = rng.random(n) < 0.02
        rows["CUSTOMER_COUNT_1H"] = rows["CUSTOMER_COUNT_1H"] + burst * rng.poisson(2.0, n)
        rows["SECONDS_SINCE_LAST"] = np.where(
            burst, rng.exponential(400, n), rows["SECONDS_SINCE_LAST"]
        )
        rows["TX_FRAUD"] = np.arange(n) < stolen
        return rows

    def _night(self, rng: np.random.Generator, n: int, start: datetime, habits: Habits) -> Columns:
        rows = self._usual(rng, n, start, habits, peak=2.5, focus=4.0)
        rows["TX_AMOUNT"] = rows["CUSTOMER_MEAN_AMOUNT"] * rng.lognormal(1.35, 0.45, n)
        rows["DISTANCE_KM"] = rng.gamma(2.0, 150, n)
        rows["NEW_TERMINAL"] = rng.random(n) < 0.95
        return rows | {"TX_FRAUD": np.ones(n, bool)}

    def _skimmed(
        self, rng: np.random.Generator, n: int, start: datetime, habits: Habits
    ) -> Columns:
        rows = self._usual(rng, n, start, habits, peak=habits.peak, focus=1.1)
        terminal = rng.choice(self._risky, n)
        rows["TERMINAL_ID"], rows["TERMINAL_AGE_DAYS"] = terminal, self._terminals.age[terminal]
        rows["TERMINAL_RISK"] = rng.beta(8, 24, n)
        rows["TX_AMOUNT"] = rows["TX_AMOUNT"] * rng.lognormal(0.5, 0.4, n)
        rows["CARD_PRESENT"] = np.ones(n, bool)
        return rows | {"TX_FRAUD": np.ones(n, bool)}

    def _drip(self, rng: np.random.Generator, n: int, start: datetime, habits: Habits) -> Columns:
        rows = self._usual(rng, n, start, habits, peak=13.0, focus=2.0)
        terminal = rng.choice(self._young, n)
        rows["TERMINAL_ID"], rows["TERMINAL_AGE_DAYS"] = terminal, self._terminals.age[terminal]
        rows["TX_AMOUNT"] = rows["CUSTOMER_MEAN_AMOUNT"] * rng.lognormal(-1.6, 0.45, n)
        rows["CUSTOMER_COUNT_1H"] = 1 + rng.poisson(4.0, n)
        rows["CUSTOMER_COUNT_1D"] = rows["CUSTOMER_COUNT_1D"] + rows["CUSTOMER_COUNT_1H"]
        rows["SECONDS_SINCE_LAST"] = rng.exponential(240, n) + 5
        rows["CARD_PRESENT"] = np.zeros(n, bool)
        rows["NEW_TERMINAL"] = rng.random(n) < 0.6
        return rows | {"TX_FRAUD": np.ones(n, bool)}

    def _usual(
        self,
        rng: np.random.Generator,
        n: int,
        start: datetime,
        habits: Habits,
        *,
        peak: float,
        focus: float,
    ) -> Columns:
        """n payments as the customers make them, around local hour `peak`; without TX_FRAUD."""
        people, places = self._customers, self._terminals
        customer = people.choose(rng, n, start.hour, peak, focus)
        terminal = rng.integers(0, len(places.risk), n)
        seconds = rng.random(n) * 3600
        rate = people.rate[customer]
        hour_count = rng.poisson(rate / HOURS)
        return {
            "TX_DATETIME": _microseconds(start) + (seconds * 1e6).astype(np.int64),
            "CUSTOMER_ID": customer,
            "TERMINAL_ID": terminal,
            "TX_AMOUNT": people.spending[customer] * rng.lognormal(0, 0.6, n) * habits.more,
            "LOCAL_HOUR": (start.hour + seconds / 3600 + people.zone[customer]) % HOURS,
            "CARD_PRESENT": rng.random(n) < 0.7,
            "DISTANCE_KM": rng.gamma(1.5, 6.0, n),
            "NEW_TERMINAL": rng.random(n) < 0.15,
            "CUSTOMER_MEAN_AMOUNT": people.spending[customer]
            * rng.lognormal(0.18, 0.15, n)
            * self._caught_up(start, habits),
            "CUSTOMER_COUNT_1H": hour_count,
            "CUSTOMER_COUNT_1D": hour_count + rng.poisson(rate),
            "SECONDS_SINCE_LAST": rng.exponential(86400 / rate),
            "TERMINAL_RISK": places.risk[terminal],
            "TERMINAL_AGE_DAYS": places.age[terminal],
        }

    def _caught_up(self, start: datetime, habits: Habits) -> float:
        """How far a mean over 30 days has followed the customers' new spending."""
        if self.shift_at is None or start < self.shift_at:
            return 1.0
        return 1.0 + (habits.more - 1.0) * min(1.0, (start - self.shift_at) / timedelta(days=30))


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _hours(since: datetime, until: datetime) -> Iterator[int]:
    if until <= since:
        return iter(())
    return iter(range((since - EPOCH) // HOUR, -((EPOCH - until) // HOUR)))
