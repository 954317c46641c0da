"""The tables that stages share: names, meanings and dtypes of their columns."""

from __future__ import annotations

import polars as pl

TIME = pl.Datetime("us", "UTC")

PREDICTIONS: dict[str, pl.DataType] = {
    "id": pl.String(),  # the request's id; row k of a batch is `id/k`; the key for labels
    "time": TIME,  # when it was answered, by the data plane's clock
    "model": pl.String(),
    "version": pl.String(),  # "" where no version could answer
    "arm": pl.String(),  # champion | canary | shadow; "" where no version could answer
    "probability": pl.Float64(),  # with which the arm was assigned (1.0: shadow, 0.0: no arm)
    "latency": pl.Float64(),  # seconds from the request's arrival to its answer
    "features": pl.List(pl.Float32()),  # in the version's input order; empty on malformed input
    "score": pl.Float64(),  # the positive class's probability; null on error
    "error": pl.String(),  # null on success
    "inputs": pl.String(),  # JSON object of the inputs that are no float32 numbers; null: none
    # the probability with which this request's true outcome is allowed to become known:
    # `serving.explore` where the score is an alert and the share is declared, else 1.0. Of a
    # shadow always 1.0: it decides nothing, the record of the answer under the same id says it
    "propensity": pl.Float64(),
}

LABELS: dict[str, pl.DataType] = {
    "id": pl.String(),
    "label": pl.Float64(),
    "time": TIME,  # when the outcome happened, as the sender says
    "known": TIME,  # when it reached us: decides what was known at any time
}
