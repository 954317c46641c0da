"""The `data:` section: where the rows come from and what must hold of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from homeostat.core.duration import Duration

FunctionName = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="module:function")
]
Share = Annotated[float, Meta(ge=0, le=1)]


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """column: holds 0 or 1. matures_after: how long after a row's time its label is final."""

    column: str
    matures_after: Duration


class Between(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    min: float | None = None
    max: float | None = None


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"values": "in"}):
    """What must hold of one column. `in`: the categories that may occur."""

    min: float | None = None
    max: float | None = None
    values: tuple[str | float, ...] | None = None
    type: Literal["int", "float", "string", "bool", "datetime"] | None = None
    nulls: Literal["allow", "forbid"] | Share | None = None
    unique: bool = False


class Expect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """rows: of the source. nulls: for every column without a rule of its own.
    positives: the share of positive labels. leakage: whether to look for it."""

    rows: Between = Between(min=1)
    nulls: Literal["allow", "forbid"] = "allow"
    columns: dict[str, Column] = {}
    positives: Between | None = None
    duplicates: Literal["allow", "forbid"] = "forbid"
    leakage: Literal["check", "skip"] = "check"


class DataSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """source: file, glob, s3://..., or postgresql://... with `query`.
    time, key: columns of the source. transform: a function of a Polars frame that returns one.
    features: columns the model sees, numbers or text, in its order; all numeric ones but key, time,
    label and segments if unset.
    """

    source: str
    time: str
    key: str
    label: Label
    query: str | None = None
    transform: FunctionName | None = None
    features: tuple[str, ...] | None = None
    expect: Expect = Expect()
