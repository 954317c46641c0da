"""Notices to where people look: the console, a webhook, Alertmanager, or a service by its URL.

Nothing is tried twice here: what could not be told raises Unavailable and the loop comes again.
With several targets, one that fails does not keep a notice from the others; they see it again only
when the process was started anew meanwhile: deduplicate by its key.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO
from urllib.parse import urlsplit, urlunsplit

import msgspec

from homeostat.core.errors import BadInput, Unavailable
from homeostat.core.ports import RESOLVED, Notice, Notifier

TIMEOUT = 5.0
ALERTMANAGER = "http://localhost:9093"
RENEWED = timedelta(minutes=1)
"""How often Alertmanager hears of an open alert: it keeps alerts in memory only."""
LASTS = timedelta(days=1)
"""An alert that is not renewed ends after this long; a loop that is down does not end it."""
SEVERITIES = ("critical", "warning", "info")
EXPECTED = (
    "console, alertmanager, alertmanager+http(s)://host:port, http(s)://... or the URL of a "
    "service of Apprise (https://github.com/caronc/apprise/wiki)"
)


class Console:
    """One line per notice on stderr."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def send(self, notice: Notice) -> None:
        line = f"{notice.at:%F %R} {notice.severity}: {notice.title}: {notice.text}"
        # looked up late: stderr may be replaced after this was built
        print(" ".join(line.split()), file=self._stream or sys.stderr, flush=True)

    def renew(self, alerts: Sequence[Notice]) -> None:
        """Whoever read the line knows."""


class Webhook:
    """POSTs the notice as JSON: key, title, text, severity, at, model, since (ISO 8601)."""

    def __init__(self, url: str) -> None:
        self._url = _web(url)

    def send(self, notice: Notice) -> None:
        body = {
            "key": notice.key,
            "title": notice.title,
            "text": notice.text,
            "severity": notice.severity,
            "at": notice.at.isoformat(),
            "model": notice.model,
            "since": notice.since and notice.since.isoformat(),
        }
        _post(self._url, body)

    def renew(self, alerts: Sequence[Notice]) -> None:
        """Whoever takes a notice keeps it."""


class Alertmanager:
    """POSTs to the v2 API. An alert is known there by its labels: alertname, model, severity,
    kind and incident. now: the machine's time, in which Alertmanager lives whatever the
    loop's clock shows."""

    def __init__(self, url: str, now: Callable[[], datetime] | None = None) -> None:
        self._url = _web(url).rstrip("/") + "/api/v2/alerts"
        self._now = now or (lambda: datetime.now(UTC))
        self._renewed: datetime | None = None

    def send(self, notice: Notice) -> None:
        # an escalation is another alert there: whatever it was before is over
        key, severity = notice.alert + RESOLVED, notice.was or notice.severity
        others = [s for s in SEVERITIES if s != severity]
        ends = [self._alert(msgspec.structs.replace(notice, key=key, was=s)) for s in others]
        _post(self._url, [self._alert(notice), *ends])

    def renew(self, alerts: Sequence[Notice]) -> None:
        now = self._now()
        if self._renewed is not None and now < self._renewed + RENEWED:
            return
        if alerts:
            _post(self._url, [self._alert(notice) for notice in alerts])
        self._renewed = now

    def _alert(self, notice: Notice) -> dict[str, Any]:
        now = self._now()
        kind = notice.alert.partition("@")[0]
        labels = {
            "alertname": f"Homeostat{kind.title().replace('_', '')}",
            "model": notice.model,
            "severity": notice.was or notice.severity,
            "kind": kind,
            "incident": notice.incident or notice.alert,
        }
        return {
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": {
                "summary": notice.title,
                "description": notice.text,
                "see": "homeostat status; homeostat history -e",
            },
            # since is of the loop's clock, which may be ahead
            "startsAt": min(notice.since or now, now).isoformat(),
            "endsAt": (now if notice.over else now + LASTS).isoformat(),
        }


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
            raise BadInput(f"{self._shown} is not a notification URL", expected=EXPECTED)

    def send(self, notice: Notice) -> None:
        kind = {"critical": "failure", "warning": "warning"}.get(notice.severity, "info")
        kind = "success" if notice.over else kind
        title = f"{notice.model}: {notice.title}" if notice.model else notice.title
        if not self._apprise.notify(title=title, body=notice.text, notify_type=kind):
            raise Unavailable(f"{self._shown} did not take a notice", remedy="it is tried again")

    def renew(self, alerts: Sequence[Notice]) -> None:
        """Whoever got the message keeps it."""


class Everybody:
    """Several targets; raises Unavailable at the end when any of them could not be told. When the
    same notice comes again, only those are tried that have not got it yet."""

    def __init__(self, targets: Sequence[Notifier]) -> None:
        self._targets = tuple(targets)
        self._told: dict[str, set[int]] = {}  # key of a notice that waits -> targets that have it

    def send(self, notice: Notice) -> None:
        told = self._told.setdefault(notice.key, set())
        untold = {i: target for i, target in enumerate(self._targets) if i not in told}
        failed: list[Unavailable] = []
        for i, target in untold.items():
            try:
                target.send(notice)
                told.add(i)
            except Unavailable as error:
                failed.append(error)
        if failed:
            raise failed[0]
        del self._told[notice.key]

    def renew(self, alerts: Sequence[Notice]) -> None:
        failed: list[Unavailable] = []
        for target in self._targets:
            try:
                target.renew(alerts)
            except Unavailable as error:
                failed.append(error)
        if failed:
            raise failed[0]


def notifier(urls: Sequence[str], alertmanager: str | None = None) -> Notifier:
    """One notifier for `monitoring.notify`. alertmanager: the URL for the word `alertmanager`.
    Raises BadInput for a URL that nothing understands, or that needs a package which is not
    installed."""
    for _, error in mistakes(urls, alertmanager):
        raise error
    return Everybody([_target(url, alertmanager) for url in urls])


def mistakes(
    urls: Sequence[str], alertmanager: str | None = None
) -> Iterator[tuple[int, BadInput]]:
    """What keeps a notice from being sent to these, each with its place. Nothing is sent."""
    for i, url in enumerate(urls):
        try:
            _target(url, alertmanager)
        except BadInput as error:
            error.path = f"$.monitoring.notify[{i}]"
            yield i, error


def _target(url: str, alertmanager: str | None) -> Notifier:
    scheme = url.split("://", 1)[0].lower()
    if url == "console":
        return Console()
    if url == "alertmanager":
        return Alertmanager(_named("ALERTMANAGER_URL", alertmanager or ALERTMANAGER))
    if scheme in ("alertmanager", "alertmanager+http", "alertmanager+https"):
        web = scheme.partition("+")[2] or "http"
        return Alertmanager(urlunsplit((web, *urlsplit(url)[1:])))
    if scheme in ("http", "https"):
        return Webhook(url)
    return Service(url)


def _named(variable: str, url: str) -> str:
    if url.startswith(("http://", "https://")):
        return url
    raise BadInput(f"{variable} is not an address", expected="http(s)://host:port")


def _web(url: str) -> str:
    """The URL, if a request can be sent there. Raises BadInput."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        usable = False
    if not usable or url != "".join(url.split()):
        raise BadInput(f"{_shown(url)} is not an address", expected=EXPECTED)
    return url


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
    """Without what may be secret: user, password, path, query; of a service the host as well."""
    scheme = url.split("://", 1)[0].lower()
    if scheme not in ("http", "https"):
        return f"{scheme}://..."
    try:
        return f"{scheme}://{urlsplit(url).hostname or '...'}"
    except ValueError:  # a bracket that is not closed
        return f"{scheme}://..."
