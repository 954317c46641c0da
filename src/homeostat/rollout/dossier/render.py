"""A dossier as Markdown, as JSON, or as one page that needs nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from homeostat.rollout.dossier import charts
from homeostat.rollout.dossier.model import Dossier, Guard
from homeostat.rollout.dossier.why import name, number, spell, tolerated
from homeostat.rollout.sufficiency import ROUTER

FORMATS = ("md", "json", "html")
WORDS = {"pass": "passes", "inconclusive": "open", "error": "error", "fail": "fails"}
OUTCOMES = {"promoted": "promoted", "rolled_back": "rolled back", "holds": "holding"}
"""Those that are not said as they are written."""


def render(found: Dossier, form: str) -> str:
    """form: one of FORMATS."""
    match form:
        case "json":
            encoded = msgspec.json.encode(found, enc_hook=str)
            return msgspec.json.format(encoded, indent=2).decode() + "\n"
        case "html":
            bounded = [g for g in found.guards if _bounded(g)]
            drawn = {id(g): charts.guard(g, found.began, _end(found)) for g in bounded}
            return _fill(
                "dossier.html.j2",
                d=found,
                exposure=Markup(charts.exposure(found) if found.tried else ""),
                drawn=lambda g: Markup(drawn.get(id(g)) or ""),
            )
        case "md":
            return _fill("dossier.md.j2", d=found)
        case _:
            raise ValueError(f"no format {form!r}: {', '.join(FORMATS)}")


def _end(found: Dossier) -> datetime:
    return found.ended or found.at


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("homeostat.rollout.dossier"),
        autoescape=lambda name: bool(name) and ".html" in str(name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "parts": _parts,
        "candidates_answered": _candidates_answered,
        "bounded": _bounded,
    }
    made.filters |= {
        "number": number,
        "when": lambda at: f"{at:%Y-%m-%d %H:%M}",
        "spell": spell,
        "days": lambda days: spell(timedelta(days=days)),
        "word": lambda outcome: WORDS[str(outcome)],
        "state": lambda outcome: OUTCOMES.get(outcome, outcome),
        "tolerated": tolerated,
        "title": _title,
        "bare": _bare,
        "cell": lambda text: str(text).replace("|", "\\|"),
        "short": lambda digest: str(digest)[:19] + "…" if len(str(digest)) > 42 else digest,
    }
    return made


def _fill(template: str, **values: Any) -> str:
    filled: str = _environment().get_template(template).render(**values)
    return filled


def _title(guard: Guard) -> str:
    """`error_rate` -> `Error rate`, with its slice."""
    title = name(guard.name)
    title = title[:1].upper() + title[1:]
    return title if guard.slice is None else f"{title}: {guard.slice}"


def _bare(sentence: str) -> str:
    """A guard's sentence without its name, under a heading that says it."""
    said = sentence.partition(": ")[2] or sentence
    return said[:1].upper() + said[1:]


def _parts(found: Dossier) -> list[str]:
    """The rows of the table of origins: every part that is known of any version."""
    return list(dict.fromkeys(name for o in found.origins for name in o.parts))


def _candidates_answered(found: Dossier) -> int:
    return sum((found.answered or {}).get(v, 0) for v in found.candidates)


def _bounded(guard: Guard) -> bool:
    """Whether its figure is a harm with bounds; the router's is a share, told in its sentence."""
    return guard.name != ROUTER
