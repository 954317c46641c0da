"""Notices to where people look: the console, a webhook, Alertmanager, or a service by its URL.

Nothing is tried twice here: what could not be told raises Unavailable and the loop comes again.
With several targets, one that fails does not keep a notice from the others; they see it again only
when the process was started anew meanwhile: deduplicate by its key.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO
from urllib.parse import urlsplit, urlunsplit

from homeostat.core.errors import BadInput, Unavailable
from homeostat.core.ports import Notice, Notifier
from homeostat.monitoring.model import RESOLVED

TIMEOUT = 5.0
ALERTMANAGER = "http://localhost:9093"
LASTS = timedelta(days=1)
"""Alertmanager forgets an alert that is not sent again by then."""


class Console:
    """One line per notice on stderr."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def send(self, notice: Notice) -> None:
        line = f"{notice.at:%F %R} {notice.severity}: {notice.title}: {notice.text}"
        # looked up late: stderr may be replaced after this was built
        print(" ".join(line.split()), file=self._stream or sys.stderr, flush=True)


class Webhook:
    """POSTs the notice as JSON: key, title, text, severity, at (ISO 8601)."""

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, notice: Notice) -> None:
        body = {
            "key": notice.key,
            "title": notice.title,
            "text": notice.text,
            "severity": notice.severity,
            "at": notice.at.isoformat(),
        }
        _post(self._url, body)


class Alertmanager:
    """POSTs to the v2 API. A notice whose key ends with `/resolved` ends the alert it names."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/api/v2/alerts"

    def send(self, notice: Notice) -> None:
        over = notice.key.endswith(RESOLVED)
        key = notice.key.removesuffix(RESOLVED)
        # Alertmanager lives in the machine's time, the notice in the loop's
        now = datetime.now(UTC)
        alert = {
            "labels": {"alertname": f"homeostat_{key.split('@')[0]}", "key": key},
            "annotations": {
                "summary": notice.title,
                "description": notice.text,
                "severity": notice.severity,
                "at": notice.at.isoformat(),
            },
            "endsAt": (now if over else now + LASTS).isoformat(),
        }
        _post(self._url, [alert])


class Service:
    """Any of the services that Apprise knows, by its URL."""

    def __init__(self, url: str) -> None:
        try:
            apprise = importlib.import_module("apprise")
        except ImportError:
            raise BadInput(
                f"notifications to {_shown(url)} need the package apprise",
                remedy="pip install 'homeostat[notify]'",
            ) from None
        self._shown = _shown(url)
        self._apprise: Any = apprise.Apprise()
        if not self._apprise.add(url):
            raise BadInput(
                f"{self._shown} is not a notification URL",
                path="$.monitoring.notify",
                expected="console, alertmanager, http(s)://... or a URL of a service by Apprise",
            )

    def send(self, notice: Notice) -> None:
        kind = {"critical": "failure", "warning": "warning"}.get(notice.severity, "info")
        if not self._apprise.notify(title=notice.title, body=notice.text, notify_type=kind):
            raise Unavailable(f"{self._shown} did not take a notice", remedy="it is tried again")


class Everybody:
    """Several targets; raises Unavailable at the end when any of them could not be told. When the
    same notice comes again, only those are tried that have not got it yet."""

    def __init__(self, targets: Sequence[Notifier]) -> None:
        self._targets = tuple(targets)
        self._told: dict[str, set[int]] = {}  # key of a notice that waits -> targets that have it

    def send(self, notice: Notice) -> None:
        told = self._told.setdefault(notice.key, set())
        failed: list[Unavailable] = []
        for i, target in enumerate(self._targets):
            if i in told:
                continue
            try:
                target.send(notice)
                told.add(i)
            except Unavailable as error:
                failed.append(error)
        if failed:
            raise failed[0]
        del self._told[notice.key]


def notifier(urls: Sequence[str]) -> Notifier:
    """One notifier for `monitoring.notify`. Raises BadInput for a URL that nothing understands,
    or that needs a package which is not installed."""
    return Everybody([_target(url) for url in urls])


def _target(url: str) -> Notifier:
    scheme = url.split("://", 1)[0].lower()
    if url == "console":
        return Console()
    if url == "alertmanager":
        return Alertmanager(ALERTMANAGER)
    if scheme in ("alertmanager", "alertmanagers"):
        web = "https" if scheme.endswith("s") else "http"
        return Alertmanager(urlunsplit((web, *urlsplit(url)[1:])))
    if scheme in ("http", "https"):
        return Webhook(url)
    return Service(url)


def _post(url: str, body: Any) -> None:
    import httpx

    try:
        answer = httpx.post(url, json=body, timeout=TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"cannot reach {_shown(url)}",
            found=type(error).__name__,
            remedy="it is tried again; check monitoring.notify",
        ) from error
    if answer.status_code >= 300:
        raise Unavailable(
            f"{_shown(url)} did not take a notice",
            expected="a status below 300",
            found=str(answer.status_code),
            remedy="it is tried again; check monitoring.notify",
        )


def _shown(url: str) -> str:
    """Without what may be secret: user, password, path, query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or '...'}"
