"""From the prediction log to arrays: what a rollout looks at of each record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import is_not
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.names import Arm
from homeostat.rollout.seen.columns import Flags

Told = dict[str, NDArray[Any]]
"""Column -> what each of n records says."""
OTHER, CHAMPION, CANARY = range(3)
"""Arms."""
BY_CHAMPION, BY_NOBODY, BY_CANDIDATE, BY_RIVALS, BY_OTHERS = range(5)
"""Whose record it is; the first three are looked at."""
_ARMS = {Arm.CHAMPION.value: CHAMPION, Arm.CANARY.value: CANARY}


class Reader:
    """Reads records for one candidate beside the champion. The rest: as for `Observations`."""

    def __init__(
        self,
        champion: str,
        candidate: str,
        groups: Mapping[str, pl.Expr],
        entity: pl.Expr | None,
        rivals: Collection[str],
    ) -> None:
        self.groups = tuple(groups)
        self._more = {f"group:{name}": e.cast(pl.String) for name, e in groups.items()}
        if entity is not None:
            self._more["entity"] = entity.cast(pl.String)
        self._by = dict.fromkeys(rivals, BY_RIVALS)
        self._by |= {"": BY_NOBODY, champion: BY_CHAMPION, candidate: BY_CANDIDATE}

    def read(self, log: pl.DataFrame) -> Told:
        """What is looked at of each record. request: the batch's id where it is a row of one."""
        if self._more:
            log = log.with_columns(**self._more)
        ids = log["id"].to_list()
        request = [_request(id) if "/" in id else id for id in ids]
        entity = request
        if "entity" in self._more:
            said = zip(log["entity"].to_list(), ids, request, strict=True)
            entity = [e if e and e != id else other for e, id, other in said]
        own, propensity = log["probability"].to_numpy(), log["propensity"].to_numpy()
        return {
            "id": np.array(ids, object),
            "request": np.array(request, object),
            "entity": np.array(entity, object),
            "batched": np.fromiter(map(is_not, request, ids), np.bool_, len(ids)),
            "time": log["time"].cast(pl.Int64).to_numpy(),
            "by": _codes(log["version"], self._by, BY_OTHERS),
            "arm": _codes(log["arm"], _ARMS, OTHER),
            "failed": _there(log["error"]),
            "scored": _there(log["score"]),
            "score": log["score"].to_numpy(),
            "latency": log["latency"].to_numpy(),
            "own": np.where(np.isnan(own), 0.0, own),
            "propensity": np.where(np.isnan(propensity), 1.0, propensity),
            **{f"group:{g}": np.array(log[f"group:{g}"].to_list(), object) for g in self.groups},
        }


def logged(name: str, features: Sequence[str]) -> pl.Expr:
    """An input's value in the prediction log, as text. features: the names of those that are
    plain numbers, in the model's order. Null where the log does not have it."""
    found = pl.col("inputs").str.json_path_match(f'$["{name}"]')
    if name not in features:
        return found
    number = pl.col("features").list.get(features.index(name), null_on_oob=True)
    return pl.coalesce(found, number.cast(pl.String))


def _request(id: str) -> str:
    """Of a row of a batch (`<id>/<number>`), the batch's."""
    batch, _, row = id.rpartition("/")
    return batch if row.isdecimal() else id


def _codes(column: pl.Series, codes: Mapping[str, int], other: int) -> NDArray[np.int8]:
    column = column.fill_null("") if column.null_count() else column
    found = np.full(len(column), other, np.int8)
    for text, code in codes.items():
        found[(column == text).to_numpy()] = code
    return found


def _there(column: pl.Series) -> Flags:
    """Where there is a value."""
    if not column.null_count():
        return np.ones(len(column), np.bool_)
    return np.array([value is not None for value in column.to_list()], np.bool_)
