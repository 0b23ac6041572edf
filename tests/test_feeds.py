"""Live feeds over HTTP, from a server in a thread; the test says when there may be messages."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from bridges.errors import BridgeUnavailable
from functional.feed_client import PATIENCE, FeedClient
from gateway.access.signing import EXPIRES, sign
from gateway.app import make_app
from gateway.core.core import Core
from gateway.core.messages import feeding
from gateway.core.messages.post import Post
from gateway.observe import metrics
from gateway.server.listening import listen
from gateway.server.loop import Listener
from gateway.stream import feeds as feeds_module
from gateway.stream import reader as reader_module
from gateway.stream.feeds import Feeds, FeedSettings
from gateway.stream.loop import StreamLoop
from gateway.web.errors import json_error
from tests.test_server import wsgi_options

PATH = "/v2/queues/queue/messages"
KEY = "secret"


class StandIn:
    """Watches whose ``woken`` the test calls."""

    def __init__(self) -> None:
        self.watched: list[Watched] = []

    def watch(self, project: str, queue: str, woken: Callable[[], None], *, consumes: bool) -> "Watched":
        assert not consumes
        watched = Watched(self, project, queue, woken)
        self.watched.append(watched)
        return watched


class Watched:
    def __init__(self, watches: StandIn, project: str, queue: str, woken: Callable[[], None]) -> None:
        self.queue = project, queue
        self.woken = woken
        self._watches = watches

    def looked(self, found: bool) -> None:
        pass

    def close(self) -> None:
        self._watches.watched.remove(self)


class Served:
    """A gateway in this process."""

    def __init__(self, conf: Any, core: Core, settings: FeedSettings, options: Any) -> None:
        self.core = core
        self.watches = StandIn()
        self.streams = StreamLoop()
        self.feeds = Feeds(self.streams, self.watches, core, settings, conf.enable_checksum)
        self.app = make_app(conf, core, feeds=self.feeds)
        self.listener = Listener(self.app, listen("127.0.0.1", 0), options, 100_000, error_body=json_error)
        self.port = int(self.listener.getsockname()[1])
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over:
            self.listener.turn(0.02)

    def post(self, *bodies: bytes, queue: str = "queue", client: str = "", project: str = "project") -> list[str]:
        """Post, and say so."""
        ids = self.core.messages.post(project, queue, client, [Post(body, None, None) for body in bodies], 0)
        self.wake()
        return ids

    def post_much(self, times: int) -> None:
        """Post 1.2 MB so many times, in messages that are numbered."""
        for first in range(0, 20 * times, 20):
            self.post(*[b'"%d %s"' % (number, b"x" * 60_000) for number in range(first, first + 20)])

    def slow_feed(self) -> FeedClient:
        """A feed to a client whose machine buffers little."""
        headers = {"X-Project-ID": "project", "Client-ID": str(uuid4()), "Accept": "text/event-stream"}
        return FeedClient(self.port, PATH, headers, buffer=16_384)

    def wake(self) -> None:
        """Say that there may be messages."""
        self.streams.call(lambda: [watched.woken() for watched in list(self.watches.watched)])

    def feed(self, path: str = PATH, **headers: str) -> FeedClient:
        """Ask for a feed."""
        usual = {"X-Project-ID": "project", "Client-ID": str(uuid4()), "Accept": "text/event-stream"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return FeedClient(self.port, path, usual | given)

    def close(self) -> None:
        self.feeds.close()
        self.streams.close()
        self._is_over = True
        self._thread.join(PATIENCE)
        self.listener.task_dispatcher.shutdown(timeout=PATIENCE)
        self.listener.close()


@pytest.fixture
def serve(configured: Callable[..., Any], core: Core) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def make(
        keep_alive: float = 60.0, longest: float = 60.0, client_timeout: float = 60.0, **sections: dict[str, object]
    ) -> Served:
        conf = configured(signed_url={"secret_key": KEY}, **sections)
        started.append(Served(conf, core, FeedSettings(keep_alive, longest, client_timeout), wsgi_options()))
        return started[-1]

    yield make
    for served in started:
        served.close()


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


def info_reads(core: Core) -> Any:
    found = core.directory.find("project", "queue")
    assert found is not None
    return found.reads


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def signed(project: str = "project", methods: str = "GET", paths: str = PATH, seconds: float = 60, **more: str) -> str:
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime(EXPIRES)
    signature = sign(KEY, paths.split(","), methods.split(","), project, expires)
    return urlencode({
        "url_signature": signature, "url_expires": expires, "url_methods": methods, "url_paths": paths,
        "project_id": project, "client_id": str(uuid4()), **more,
    })


# -- what is shown --------------------------------------------------------------------------------------------------


def test_feed_shows_what_is_there_and_what_comes(served: Served) -> None:
    served.post(b"1", b"2")
    feed = served.feed()
    assert feed.status == 200
    assert feed.answered["content-type"] == "text/event-stream"
    assert feed.answered["cache-control"] == "no-store" and feed.answered["connection"] == "close"
    assert feed.answered["x-openstack-request-id"].startswith("req-")
    assert feed.bodies(2) == [1, 2]
    (id_,) = served.post(b'{"three": 3}')
    event = feed.next()
    assert event.name == "message"
    assert event.value["id"] == id_ and event.value["body"] == {"three": 3}
    assert event.value["href"] == f"{PATH}/{id_}"
    assert event.value.keys() == {"id", "href", "ttl", "age", "body"}


def test_feed_goes_on_after_the_event_that_was_seen_last(served: Served) -> None:
    served.post(*[b"%d" % number for number in range(30)])
    first = served.feed(f"{PATH}?limit=7")
    seen = first.messages(12)
    first.close()
    again = served.feed(f"{PATH}?marker=0", Last_Event_ID=seen[-1].id or "")
    assert again.bodies(18) == list(range(12, 30))
    by_marker = served.feed(f"{PATH}?marker={seen[-1].id}")
    assert by_marker.bodies(18) == list(range(12, 30))
    by_message = served.feed(f"{PATH}?marker={seen[-1].value['id']}")
    assert by_message.bodies(18) == list(range(12, 30))


def test_own_messages_are_shown_with_echo_only(served: Served) -> None:
    me, other = str(uuid4()), str(uuid4())
    without, with_echo = served.feed(Client_ID=me), served.feed(f"{PATH}?echo=true", Client_ID=me)
    served.post(b"1", client=me)
    served.post(b"2", client=other)
    served.post(b"3", client=me)
    served.post(b"4", client=other)
    assert without.bodies(2) == [2, 4]
    assert with_echo.bodies(4) == [1, 2, 3, 4]


def test_hidden_messages_are_shown_when_they_are_asked_for(served: Served) -> None:
    served.core.directory.ensure("project", "queue")
    every = served.feed(f"{PATH}?include_claimed=true&include_delayed=true")
    free = served.feed()
    delayed = [Post(b"1", None, 600)]
    served.core.messages.post("project", "queue", "", delayed, 0)
    served.post(b"2")
    assert every.bodies(2) == [1, 2]
    assert free.bodies(1) == [2]


def test_feed_waits_for_a_queue_that_does_not_exist(served: Served) -> None:
    feed = served.feed("/v2/queues/later/messages")
    assert feed.status == 200
    served.post(b"1", queue="later")
    assert feed.bodies(1) == [1]


def test_feeds_of_a_queue_share_reads(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    page = served.core.messages.feed_page
    monkeypatch.setattr(served.core.messages, "feed_page", lambda *args: reads.append(args[2]) or page(*args))
    feeds = [served.feed() for _ in range(50)]
    until(lambda: len(served.feeds._feeds) == 50 and reads)
    assert len(served.watches.watched) == 1
    time.sleep(0.2)
    before = len(reads)
    served.post(b"1")
    assert [feed.bodies(1) for feed in feeds] == [[1]] * 50
    assert len(reads) - before <= 2


def test_client_that_leaves_is_forgotten(served: Served) -> None:
    before = metrics.FEEDS._value.get()
    feeds = [served.feed() for _ in range(5)]
    until(lambda: metrics.FEEDS._value.get() == before + 5)
    assert len(served.listener.elsewhere) == 5
    for number, feed in enumerate(feeds):
        if number % 2:
            feed.socket.shutdown(socket.SHUT_WR)
        else:
            feed.close()
    until(lambda: metrics.FEEDS._value.get() == before)
    until(lambda: not served.listener.elsewhere and not served.watches.watched)
    assert not served.feeds._readers and not served.feeds.stalled


def test_checksums_are_shown_where_lists_show_them(serve: Callable[..., Served]) -> None:
    served = serve(DEFAULT={"enable_checksum": "true"})
    feed = served.feed()
    served.post(b"1")
    assert feed.next().value["checksum"].startswith("MD5:")


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query, words", [
    ("limit=0", "limit"), ("limit=21", "limit"), ("limit=x", "limit"), ("echo=x", "echo"), ("ids=a", "ids"),
    ("wait=5", "wait"), ("marker=@", "marker"), ("marker=unknown", "marker"), ("marker=99999999999999999999", "marker"),
    ("marker=peek-3", "marker"), ("marker=9000000000000000000", "marker"),
])
def test_wrong_parameters_are_refused_before_a_feed_begins(served: Served, query: str, words: str) -> None:
    served.post(b"1")
    feed = served.feed(f"{PATH}?{query}")
    assert feed.status == 400
    assert words in feed.json()["description"]


def test_last_event_id_that_no_feed_of_this_queue_has_given_is_refused(served: Served) -> None:
    (other,) = served.post(b"1", queue="other")
    served.post(b"1")
    for wrong in ("nonsense", other, "\xe9"):
        feed = served.feed(Last_Event_ID=wrong)
        assert feed.status == 400, wrong
    assert served.feed("/v2/queues/none/messages", Last_Event_ID="nonsense").status == 400
    assert served.feed("/v2/queues/none/messages", Last_Event_ID="1").status == 200


@pytest.mark.parametrize("accept, status", [
    ("text/event-stream", 200), ("TEXT/event-stream;q=0.5", 200), ("text/event-stream, */*", 200),
    ("text/event-stream, application/json;q=0", 200), ("application/json, text/event-stream", 400),
    ("text/event-stream;q=0.1, application/json", 400), ("text/event-stream;q=0", 406), ("text/*", 406),
])
def test_accept_says_what_the_answer_is(served: Served, accept: str, status: int) -> None:
    assert served.feed(Accept=accept).status == status


def test_page_is_answered_where_no_feed_is_named(served: Served) -> None:
    for accept in ("application/json", "*/*", "application/json, text/event-stream;q=0", "application/*, text/html"):
        feed = served.feed(Accept=accept)
        assert feed.status == 200 and feed.json() == {"messages": [], "links": []}, accept


def test_other_calls_have_no_feeds(served: Served) -> None:
    for path in ("/v2/queues", "/v2/queues/queue", "/v2/topics/topic/messages", f"{PATH}/id"):
        assert served.feed(path).status == 406, path
    assert served.feed("/v2/queues", Accept="application/json, text/event-stream").status == 200


def test_head_is_that_of_a_page(served: Served) -> None:
    usual = {"X-Project-ID": "project", "Client-ID": str(uuid4()), "Accept": "text/event-stream"}
    feed = FeedClient(served.port, PATH, usual, "HEAD")
    assert feed.status == 200 and feed.answered["content-type"] == "application/json"


def test_server_without_feeds_says_so(configured: Callable[..., Any], core: Core) -> None:
    client = make_app(configured(), core).test_client()
    headers = {"X-Project-ID": "p", "Client-ID": str(uuid4()), "Accept": "text/event-stream"}
    answer = client.get(PATH, headers=headers)
    assert answer.status_code == 406
    assert "no live feeds" in answer.get_json()["description"]


def test_feed_for_which_there_is_no_room_is_503(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.listener, "_max_waiting", 1)
    first = served.feed()
    until(lambda: served.listener.elsewhere)
    second = served.feed()
    assert second.status == 503 and second.answered["retry-after"]
    first.close()
    until(lambda: not served.listener.elsewhere)
    assert served.feed().status == 200


def test_somebody_else_s_queue_that_is_only_looked_at_has_no_feed(
    serve: Callable[..., Served], core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a queue of ours is taken for one: functional/bridged has real ones."""
    served = serve()
    served.post(b"1")
    feed = served.feed()
    assert feed.bodies(1) == [1]
    monkeypatch.setattr(feeding, "Reads", SimpleNamespace(FOREIGN_QUEUE_PEEKED=info_reads(core)))
    refused = served.feed()
    assert refused.status == 400 and "has no feeds" in refused.json()["description"]
    served.wake()  # it has become so while it was fed
    event = feed.next()
    assert event.name == "end" and event.value["reason"] == "refused"


# -- how feeds end --------------------------------------------------------------------------------------------------


def ended(feed: FeedClient, reason: str) -> Any:
    event = feed.next()
    assert event.name == "end" and event.value["reason"] == reason
    assert event.retry is not None and 1000 <= event.retry <= 4000
    with pytest.raises(EOFError):
        feed.next()
    return event


def test_drain_ends_feeds_with_an_event(served: Served) -> None:
    feeds = [served.feed() for _ in range(3)]
    until(lambda: len(served.feeds._feeds) == 3)
    served.feeds.drain()
    for feed in feeds:
        ended(feed, "draining")
    late = served.feed()
    assert late.status == 200  # a browser would not try again after any other status
    ended(late, "draining")
    until(lambda: not served.listener.elsewhere)


def test_end_of_the_process_does_not_wait_for_a_client_that_reads_nothing(served: Served) -> None:
    served.post_much(6)
    feed = served.slow_feed()
    until(lambda: served.feeds.stalled)
    start = time.monotonic()
    served.feeds.close()
    assert time.monotonic() - start < feeds_module.PARTING + 2
    until(lambda: not served.listener.elsewhere)
    feed.close()


def test_feed_of_a_deleted_queue_ends_and_forgets_its_place(served: Served) -> None:
    served.post(b"1")
    feed = served.feed()
    assert feed.bodies(1) == [1]
    served.core.queues.delete("project", "queue")
    served.wake()
    event = ended(feed, "deleted")
    assert event.id == ""


def test_feed_does_not_outlast_its_time(serve: Callable[..., Served]) -> None:
    served = serve(longest=1.0)
    start = time.monotonic()
    ended(served.feed(), "expired")
    assert 0.9 <= time.monotonic() - start < PATIENCE / 2


def test_broker_that_is_down_ends_feeds_after_a_while(
    served: Served, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "TRYING", 0.3)
    feed = served.feed()
    until(lambda: served.feeds._feeds)
    down = BridgeUnavailable("amqp://user:password@host is down")

    def fail(*args: Any) -> Any:
        raise down

    monkeypatch.setattr(core.messages, "feed_page", fail)
    served.wake()
    event = ended(feed, "unavailable")
    assert "broker can't be reached" in event.value["description"]
    assert "password" not in event.data


def test_silence_is_broken_by_comments(serve: Callable[..., Served]) -> None:
    served = serve(keep_alive=1.0)
    feed = served.feed()
    assert feed.is_silent(2.5)
    assert feed.comments >= 1


def test_client_that_takes_nothing_holds_a_page_and_is_closed(serve: Callable[..., Served]) -> None:
    served = serve(client_timeout=2.0)
    before = metrics.FEED_ENDS.labels("slow")._value.get()
    served.post_much(10)
    slow = served.slow_feed()
    until(lambda: served.feeds.stalled)
    (stalled,) = served.feeds.stalled
    assert stalled.buffered < 20 * 61_000
    quick = served.feed()
    assert len(quick.bodies(200)) == 200
    until(lambda: metrics.FEED_ENDS.labels("slow")._value.get() == before + 1)
    with pytest.raises((EOFError, ConnectionError)):
        for _ in range(200):
            slow.next()
    served.post(b"1")
    assert quick.bodies(1) == [1]


def test_what_slow_clients_have_not_taken_is_bounded_in_all(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.post_much(10)
    slow = [served.slow_feed() for _ in range(4)]
    until(lambda: len(served.feeds.stalled) == 4)
    left = max(feed.buffered for feed in served.feeds.stalled)
    monkeypatch.setattr(feeds_module, "MOST_UNSENT", left)
    until(lambda: len(served.feeds.stalled) <= 2)
    assert sum(feed.buffered for feed in served.feeds.stalled) <= left
    for feed in slow:
        feed.close()


def test_client_that_talks_on_is_closed(served: Served) -> None:
    feed = served.feed()
    feed.socket.sendall(b"x" * 30_000)
    assert feed.is_silent(0.2)
    feed.socket.sendall(b"x" * 40_000)
    with pytest.raises((EOFError, ConnectionError)):
        feed.next()


def test_slow_client_gets_all_of_it_in_order(served: Served) -> None:
    served.post_much(10)
    feed = served.slow_feed()
    until(lambda: served.feeds.stalled)
    seen = []
    for _ in range(200):
        seen.append(int(feed.next().value["body"].split()[0]))
    assert seen == list(range(200))


# -- pre-signed -----------------------------------------------------------------------------------------------------


def anonymous(served: Served, query: str, **headers: str) -> FeedClient:
    return FeedClient(served.port, f"{PATH}?{query}", {"Accept": "text/event-stream", **headers})


def test_query_may_have_what_headers_say(served: Served) -> None:
    served.post(b"1")
    feed = anonymous(served, signed(echo="true"))
    assert feed.status == 200 and feed.bodies(1) == [1]
    page = anonymous(served, signed(), Accept="application/json")
    assert page.status == 200
    (link,) = page.json()["links"]
    following = FeedClient(served.port, link["href"], {"Accept": "application/json"})
    assert following.status == 200 and following.json()["messages"] == []


@pytest.mark.parametrize("change", [
    {"url_signature": "0" * 64}, {"url_signature": ""}, {"project_id": "other"}, {"project_id": ""},
    {"url_methods": "POST"}, {"url_methods": ""}, {"url_paths": "/v2/queues/other/messages"},
    {"url_expires": "2099-01-01T00:00:00"}, {"url_expires": "soon"},
])
def test_signature_in_a_query_opens_nothing_else(served: Served, change: dict[str, str]) -> None:
    assert anonymous(served, signed(**change), X_Project_ID="project").status == 404


def test_signature_of_another_call_opens_no_feed(served: Served) -> None:
    assert anonymous(served, signed(methods="POST")).status == 404
    assert anonymous(served, signed(paths="/v2/queues/other/messages")).status == 404
    assert anonymous(served, signed(seconds=-5)).status == 404


def test_headers_do_not_change_what_a_query_has_signed(served: Served) -> None:
    feed = anonymous(served, signed(), **{"X-Project-ID": "other", "URL-Signature": "0" * 64, "URL-Methods": "PUT"})
    assert feed.status == 200


def test_client_is_needed_though_the_query_is_signed(served: Served) -> None:
    assert anonymous(served, signed(client_id="")).status == 400
    assert anonymous(served, signed(client_id="x")).status == 400


def test_other_calls_are_not_opened_by_a_query(served: Served) -> None:
    path = "/v2/queues/queue/claims"
    query = signed(paths=path, methods="POST")
    refused = FeedClient(served.port, f"{path}?{query}", {"Content-Length": "0"}, "POST")
    assert refused.status == 400  # there is no project
    deleting = FeedClient(served.port, f"{PATH}?{signed(methods='DELETE', pop='1')}", {}, "DELETE")
    assert deleting.status == 400


def test_feed_ends_with_its_signature(served: Served) -> None:
    ended(anonymous(served, signed(seconds=2)), "expired")


def test_share_gives_a_url_that_opens_a_feed(served: Served) -> None:
    from requests import post

    url = f"http://127.0.0.1:{served.port}/v2/queues/queue/share"
    headers = {"X-Project-ID": "project", "Client-ID": str(uuid4())}
    shared = post(url, json={"url": True}, headers=headers, timeout=PATIENCE).json()
    assert shared.keys() == {"project", "paths", "methods", "expires", "signature", "url"}
    served.post(b"1")
    feed = FeedClient(served.port, f"{shared['url']}&client_id={uuid4()}", {"Accept": "text/event-stream"})
    assert feed.status == 200 and feed.bodies(1) == [1]
    for document in ({"url": 1}, {"url": True, "methods": ["POST"]}, {"url": True, "paths": ["claims"]}):
        assert post(url, json=document, headers=headers, timeout=PATIENCE).status_code == 400, document
    assert "url" not in post(url, json={}, headers=headers, timeout=PATIENCE).json()


# -- around it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", ["true", "false"])
def test_pages_of_allowed_origins_may_read_feeds(serve: Callable[..., Served], fast: str) -> None:
    served = serve(cors={"allowed_origin": "https://page.example"}, wsgi={"fast_dispatch": fast})
    feed = served.feed(Origin="https://page.example")
    assert feed.status == 200
    assert feed.answered["access-control-allow-origin"] == "https://page.example"
    assert feed.answered["vary"] == "Origin"
    served.post(b"1")
    assert feed.bodies(1) == [1]
    assert "access-control-allow-origin" not in served.feed(Origin="https://other.example").answered
    page = served.feed(Origin="https://page.example", Accept="application/json")
    assert page.answered["access-control-allow-origin"] == "https://page.example"
    assert page.json()["messages"]
    refused = served.feed(f"{PATH}?limit=0", Origin="https://page.example")
    assert refused.status == 400 and refused.answered["access-control-allow-origin"] == "https://page.example"


def test_feed_is_recorded_when_it_begins(serve: Callable[..., Served], tmp_path: Any) -> None:
    import json

    served = serve(audit={"file": str(tmp_path / "audit.log"), "reads": "true"})
    query = signed()
    feed = anonymous(served, query)
    assert feed.status == 200
    until(lambda: (tmp_path / "audit.log").exists() and (tmp_path / "audit.log").read_text())
    text = (tmp_path / "audit.log").read_text()
    (line,) = map(json.loads, text.splitlines())
    assert line["action"] == "messages:get_all" and line["status"] == 200 and line["signed"] is True
    assert line["path"] == PATH and line["request_id"] == feed.answered["x-openstack-request-id"]
    assert "signature" not in text


def test_what_is_sent_is_counted(served: Served) -> None:
    events, sent = metrics.FEED_EVENTS._value.get(), metrics.FEED_BYTES._value.get()
    feed = served.feed()
    served.post(b"1", b"2")
    feed.bodies(2)
    assert metrics.FEED_EVENTS._value.get() == events + 2
    assert metrics.FEED_BYTES._value.get() > sent + 100
