"""One tree of errors. Each says what was expected, what was found, and what to do next.

The class decides the exit code of the command line (section 4 of the design) and the HTTP
status at the edge; nothing between raises codes.
"""

from __future__ import annotations


class HomeostatError(Exception):
    """Something went wrong that a person can act on."""

    exit_code = 3

    def __init__(
        self,
        what: str,
        *,
        path: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.path = what, path
        self.expected, self.found, self.remedy = expected, found, remedy
        super().__init__(self.line())

    def line(self) -> str:
        """The whole error in one line: where, what, expected, found, remedy."""
        text = f"{self.path}: {self.what}" if self.path else self.what
        if self.expected:
            text += f"; expected {self.expected}"
        if self.found:
            text += f", found {self.found}" if self.expected else f"; found {self.found}"
        if self.remedy:
            text += f" -> {self.remedy}"
        return " ".join(text.split())


class BadInput(HomeostatError):
    """What was given (a file, a flag, a request, a definition) cannot be used as it is."""

    exit_code = 2


class BadDefinition(BadInput):
    """homeostat.yaml has mistakes; all of them are in `.mistakes`, each with its path."""

    def __init__(self, mistakes: list[BadInput]) -> None:
        self.mistakes = mistakes
        first = mistakes[0]
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        super().__init__(first.line() + more)


class NotFound(BadInput):
    """A model, version, run or file that was named does not exist."""


class Refused(HomeostatError):
    """A gate, a verdict or a rule said no."""

    exit_code = 1


class Conflict(HomeostatError):
    """Somebody else wrote first: read again and decide again."""


class Unavailable(HomeostatError):
    """Something that is needed (a database, a disk, a server) does not answer now."""


class Damaged(HomeostatError):
    """Stored bytes are not what was registered."""
