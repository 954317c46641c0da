"""Durations as people write them: `90s`, `10m`, `6h`, `7d`, `1w`, and sums such as `1d12h`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import msgspec

from homeostat.core.errors import BadInput

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$"


class Duration(timedelta):
    """A length of time that reads and prints the way the YAML writes it.

    >>> str(Duration.parse("1d12h")), Duration.parse("10m").total_seconds()
    ('1d12h', 600.0)
    """

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Parse `10m`, `7d`, `1d12h`; raises BadInput on anything else."""
        if not isinstance(text, str) or not re.fullmatch(PATTERN, text):
            raise BadInput(
                "not a duration",
                expected="a number and a unit (ms, s, m, h, d, w), such as 10m or 7d",
                found=repr(text),
            )
        return cls(seconds=sum(float(n) * _UNITS[u] for n, u in _PART.findall(text)))

    @classmethod
    def of(cls, delta: timedelta) -> Duration:
        return cls(seconds=delta.total_seconds())

    def __str__(self) -> str:
        left = round(self.total_seconds() * 1000)
        if left == 0:
            return "0s"
        parts = []
        for unit in ("d", "h", "m", "s", "ms"):  # 7d reads better than 1w
            n, left = divmod(left, round(_UNITS[unit] * 1000))
            if n:
                parts.append(f"{n}{unit}")
        return "".join(parts)

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


def default(text: str) -> Any:
    """A struct field whose default is a duration: `bake: Duration = default("10m")`."""
    return msgspec.field(default_factory=lambda: Duration.parse(text))
