"""A mistake in homeostat.yaml: where, what, what was expected and found, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from homeostat.core.errors import BadInput

Where = tuple[str | int, ...]
_PLAIN = re.compile(r"^[A-Za-z_][\w-]*$")


class Mistake(BadInput):
    """One mistake (or warning). where: the path as a tuple; path: as text; at: the line, from 1.

    touches: further paths that it rests on; when one of them is wrong itself, this one says
    nothing reliable and is dropped.
    """

    def __init__(
        self,
        where: Where,
        what: str,
        *,
        line: int | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
        touches: tuple[Where, ...] = (),
    ) -> None:
        self.where, self.at, self.touches = where, line, touches
        super().__init__(what, path=path_text(where), expected=expected, found=found, remedy=remedy)

    @classmethod
    def of(cls, where: Where, error: BadInput) -> Mistake:
        """What was found wrong with a value, said of its place in the definition."""
        return cls(
            where,
            error.what,
            expected=error.expected,
            found=error.found,
            remedy=error.remedy,
        )

    def line(self) -> str:
        place = f"homeostat.yaml:{self.at}: " if self.at else ""
        return place + super().line()

    def on_line(self, line: int | None) -> Mistake:
        """The same, with its line."""
        return Mistake(
            self.where,
            self.what,
            line=line,
            expected=self.expected,
            found=self.found,
            remedy=self.remedy,
            touches=self.touches,
        )


def path_text(where: Where) -> str:
    """('rollout', 'steps', 0) -> `$.rollout.steps[0]`."""
    text = "$"
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if _PLAIN.match(part) else f"[{part!r}]"
    return text


def near_miss(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    words = list(known)
    found = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if not found:
        folded = {w.lower().replace("-", "_"): w for w in words}
        same = folded.get(word.lower().replace("-", "_").replace(" ", "_"))
        found = [same] if same else []
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A remedy for a misspelt word, or None."""
    meant = near_miss(word, known)
    return f"did you mean `{meant}`?" if meant else None


def one_of(words: Iterable[str]) -> str:
    """`a`, `b` or `c`."""
    quoted = [f"`{w}`" for w in words]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]
