"""Notifiers, against a real HTTP server."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from homeostat.backends.local import notify
from homeostat.backends.memory.notify import MemoryNotifier
from homeostat.core.errors import BadInput, Unavailable
from homeostat.core.ports import Notice
from homeostat.testing.contracts.notifier import NOTICE, NotifierContract


class Receiver:
    """An HTTP server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if receiver.status == 200:
                    receiver.posts.append((self.path, json.loads(body)))
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


class TestMemoryNotifier(NotifierContract):
    @pytest.fixture
    def notifier(self) -> MemoryNotifier:
        return MemoryNotifier()

    @pytest.fixture
    def told(self, notifier: MemoryNotifier) -> Callable[[], list[str]]:
        return lambda: [n.title for n in notifier.sent]

    @pytest.fixture
    def outage(self, notifier: MemoryNotifier) -> Callable[[], None]:
        return lambda: setattr(notifier, "down", True)


class TestWebhook(NotifierContract):
    @pytest.fixture
    def notifier(self, receiver: Receiver) -> Any:
        return notify.notifier([f"http://{receiver.address}/hook"])

    @pytest.fixture
    def told(self, receiver: Receiver) -> Callable[[], list[str]]:
        return lambda: [body["title"] for _, body in receiver.posts]

    @pytest.fixture
    def outage(self, receiver: Receiver) -> Callable[[], None]:
        return lambda: setattr(receiver, "status", 503)

    def test_the_whole_notice_is_posted(self, notifier: Any, receiver: Receiver) -> None:
        notifier.send(NOTICE)
        assert receiver.posts == [
            (
                "/hook",
                {
                    "key": "quality@x",
                    "title": "harm",
                    "text": NOTICE.text,
                    "severity": "critical",
                    "at": "2026-01-01T12:30:00+00:00",
                    "model": "fraud-detector",
                    "since": "2026-01-01T12:00:00+00:00",
                },
            )
        ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestService(NotifierContract):
    """Apprise, through a service that needs no account."""

    @pytest.fixture
    def notifier(self, receiver: Receiver) -> Any:
        pytest.importorskip("apprise")
        return notify.notifier([f"json://{receiver.address}/hook"])

    @pytest.fixture
    def told(self, receiver: Receiver) -> Callable[[], list[str]]:
        return lambda: [
            body["title"].removeprefix("fraud-detector: ") for _, body in receiver.posts
        ]

    @pytest.fixture
    def outage(self, receiver: Receiver) -> Callable[[], None]:
        return lambda: setattr(receiver, "status", 500)

    def test_the_message_says_whom_it_is_about_and_how_bad_it_is(
        self, notifier: Any, receiver: Receiver
    ) -> None:
        notifier.send(NOTICE)
        over = msgspec.structs.replace(NOTICE, key="quality@x/resolved", severity="info")
        notifier.send(over)
        ((path, begun), (_, ended)) = receiver.posts
        assert path == "/hook"
        assert (begun["title"], begun["message"]) == ("fraud-detector: harm", NOTICE.text)
        assert (begun["type"], ended["type"]) == ("failure", "success")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "url",
    [
        "console",
        "alertmanager",
        "alertmanager+https://anna:secret@alerts.example.com/prefix",
        "https://example.com/hook",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops",
        "workflow://prod-01.example.com:443/workflow/signature",
        "pagerduty://IntegrationKey@ApiKey",
        "mailtos://anna:secret@example.com?to=ops@example.com",
    ],
)
def test_what_people_use_is_a_target(url: str) -> None:
    pytest.importorskip("apprise")
    assert list(notify.mistakes([url])) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "https://host:port/hook",
        "https://[::1/hook",
        "https://exa mple.com",
        "alertmanager+http://",
        "alertmanager+ftp://host",
        "slack://secret",
        "secret-word",
    ],
)
def test_what_is_no_target_is_told_without_its_secrets(url: str) -> None:
    pytest.importorskip("apprise")
    ((place, error),) = notify.mistakes(["console", url])
    assert place == 1
    assert error.path == "$.monitoring.notify[1]"
    assert "://secret" not in error.line()
    assert "\n" not in error.line()


def test_the_address_of_alertmanager_has_to_be_one() -> None:
    ((_, error),) = notify.mistakes(["alertmanager"], "localhost:9093")
    assert "ALERTMANAGER_URL is not an address" in error.line()


def test_the_console_tells_in_one_line() -> None:
    stream = io.StringIO()
    notify.Console(stream).send(Notice("k", "a\ntitle", "and\n text", "info", NOTICE.at))
    assert stream.getvalue() == "2026-01-01 12:30 info: a title: and text\n"


def test_an_address_that_does_not_answer_is_unavailable_and_its_secrets_are_not_shown() -> None:
    target = notify.notifier(["http://user:secret@127.0.0.1:1/token"])
    with pytest.raises(Unavailable, match="127.0.0.1") as caught:
        target.send(NOTICE)
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_one_target_that_fails_does_not_keep_the_notice_from_the_others(
    receiver: Receiver,
) -> None:
    urls = ["http://127.0.0.1:1/", f"http://{receiver.address}/"]
    everybody = notify.notifier(urls)
    for _ in range(3):  # the loop tries again, and tells nobody twice
        with pytest.raises(Unavailable):
            everybody.send(NOTICE)
    assert len(receiver.posts) == 1


def test_a_notice_that_everybody_has_got_may_be_sent_again(receiver: Receiver) -> None:
    everybody = notify.notifier([f"http://{receiver.address}/"])
    everybody.send(NOTICE)
    everybody.send(NOTICE)
    assert len(receiver.posts) == 2


def test_no_targets_is_nobody_told() -> None:
    notify.notifier([]).send(NOTICE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_no_service_is_bad_input() -> None:
    pytest.importorskip("apprise")
    with pytest.raises(BadInput, match="not a notification URL"):
        notify.notifier(["nonsense://"])


def test_a_service_without_its_package_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(notify.sys.modules, "apprise", None)
    with pytest.raises(BadInput, match=r"pip install 'homeostat\[notify\]'"):
        notify.notifier(["slack://a/b/c"])
