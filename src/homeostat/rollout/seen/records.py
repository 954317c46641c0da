"""From the prediction log to arrays: what a rollout looks at of each record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import is_not
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.names import Arm
from homeostat.core.records import microseconds, there
from homeostat.rollout.seen.columns import Array

Told = dict[str, NDArray[Any]]
"""Column -> what each of n records says."""
OTHER, CHAMPION, CANARY = range(3)
"""Arms."""
BY_CHAMPION, BY_NOBODY, BY_CANDIDATE, BY_RIVALS, BY_OTHERS = range(5)
"""Whose record it is; the first three are looked at."""
_ARMS: dict[str | None, int] = {Arm.CHAMPION.value: CHAMPION, Arm.CANARY.value: CANARY}


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
        self._by: dict[str | None, int] = dict.fromkeys(rivals, BY_RIVALS)
        self._by |= {None: BY_NOBODY, "": BY_NOBODY}
        self._by |= {champion: BY_CHAMPION, candidate: BY_CANDIDATE}

    def read(self, log: pl.DataFrame) -> Told:
        """What is looked at of each record. request: the batch's id where it is a row of one."""
        if self._more:
            log = log.with_columns(**self._more)
        texts = log["id"].to_list()
        ids = request = entity = np.array(texts, object)
        batched = np.zeros(len(ids), np.bool_)
        if "/" in "".join(texts):
            requests = [_request(id) if "/" in id else id for id in texts]
            batched = np.fromiter(map(is_not, requests, texts), np.bool_, len(ids))
            request = entity = np.array(requests, object)
        if "entity" in self._more:
            said = zip(log["entity"].to_list(), texts, request.tolist(), strict=True)
            entity = np.array([e if e and e != id else other for e, id, other in said], object)
        score = log["score"]
        return {
            "id": ids,
            "request": request,
            "entity": entity,
            "batched": batched,
            "time": microseconds(log["time"]),
            "by": _codes(log["version"], self._by, BY_OTHERS),
            "arm": _codes(log["arm"], _ARMS, OTHER),
            "failed": there(log["error"]),
            "scored": there(score),
            "score": score.to_numpy(),
            "latency": log["latency"].to_numpy(),
            "own": _filled(log["probability"], 0.0),
            "propensity": _filled(log["propensity"], 1.0),
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


def _codes(column: pl.Series, codes: Mapping[str | None, int], other: int) -> NDArray[np.int8]:
    return np.array([codes.get(text, other) for text in column.to_list()], np.int8)


def _filled(column: pl.Series, value: float) -> Array:
    """With a value where there is none."""
    numbers = column.to_numpy()
    lacking = np.isnan(numbers)
    return np.where(lacking, value, numbers) if np.count_nonzero(lacking) else numbers
