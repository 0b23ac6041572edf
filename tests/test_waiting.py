"""Requests that wait for messages, over HTTP: when they are answered, and with what."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from bridges.errors import BridgeUnavailable
from gateway.app import make_app
from gateway.core.core import Core
from gateway.core.messages.post import Post
from gateway.core.queues.info import QueueInfo
from gateway.observe import metrics
from gateway.observe.logs import REQUEST_ID
from gateway.server.listening import listen
from gateway.server.loop import Listener
from gateway.stream import looks
from gateway.stream.loop import StreamLoop
from gateway.stream.waiting import FRESH, SUSPENDED, Waiting
from gateway.stream.watched import IDLE
from gateway.web.errors import json_error
from gateway.web.waiting import preferred_wait
from storage.errors import StoreUnavailable
from tests.test_server import wsgi_options
from tests.threads import DEADLINE, in_background

HEADERS = {
    "Client-ID": "3381af92-2b9e-11e3-b191-71861300734c", "X-Project-ID": "project", "Accept": "application/json",
}

MESSAGES = "/v2/queues/queue/messages"

#: The calls that may wait: method and path, and status and document of an answer with nothing.
CLAIM = "POST", "/v2/queues/queue/claims?limit=1"
POP = "DELETE", f"{MESSAGES}?pop=1"
LIST = "GET", f"{MESSAGES}?echo=true"
NOTHING = {CLAIM: (204, None), POP: (200, {"messages": []}), LIST: (200, {"messages": [], "links": []})}
IDS = {CLAIM: "claim", POP: "pop", LIST: "list"}

calls = pytest.mark.parametrize("call", NOTHING, ids=IDS.values())


class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status = response.status
        self.headers = response.headers
        data = response.read()
        self.document = json.loads(data) if data else None
        self.at = time.monotonic()

    @property
    def bodies(self) -> list[Any]:
        return [message["body"] for message in self.document["messages"]]


class Server:
    """The application, served by two threads; the server's main loop is a thread of its own."""

    def __init__(self, core: Core, conf: Any, most: int = 0):
        self.core = core
        self.streams = StreamLoop()
        self.waiting = Waiting(core, self.streams, most)
        self.app = make_app(conf, core, waiting=self.waiting)
        self.listener = Listener(
            self.app, listen("127.0.0.1", 0), wsgi_options(threads=2), 1 << 20, error_body=json_error
        )
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over:
            self.listener.turn(0.05)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.listener.socket.getsockname()[:2], timeout=DEADLINE)

    def call(self, method: str, path: str, document: Any = None, **headers: str) -> Answer:
        connection = self.connect()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, json.dumps(document) if document is not None else None, HEADERS | sent)
        answer = Answer(connection.getresponse())
        connection.close()
        return answer

    def wait(self, call: tuple[str, str], seconds: int = 20, **headers: str) -> Future[Answer]:
        """Begin a call that waits; it waits when this returns."""
        before = len(self.waiting._requests)
        method, path = call
        future = in_background(lambda: self.call(method, f"{path}&wait={seconds}", **headers))
        self.until(lambda: len(self.waiting._requests) > before or future.done())
        self.until(lambda: all(request._watch is not None for request in list(self.waiting._requests)))
        return future

    def is_quiet(self) -> bool:
        """Does nobody look who waits?"""
        requests = list(self.waiting._requests)
        return all(
            request._state == SUSPENDED and request._watch is not None and request._watch.state == IDLE
            for request in requests
        )

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def post(self, number: int = 1, body: bytes = b'"m"', queue: str = "queue") -> None:
        self.core.messages.post("project", queue, "client", [Post(body, None, None, None)] * number, 1)

    def close(self) -> None:
        self.waiting.close()
        self._is_over = True
        self._thread.join()
        self.streams.close()
        self.listener.task_dispatcher.shutdown(timeout=DEADLINE)
        for connection in list(self.listener.active_channels.values()):
            connection.handle_close()
        self.listener.close()


@pytest.fixture
def make(core: Core, configured: Callable[..., Any]) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(most: int = 0, **sections: Any) -> Server:
        made.append(Server(core, configured(**sections), most))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(make: Callable[..., Server]) -> Server:
    return make()


# -- answers --------------------------------------------------------------------------------------------------------


@calls
def test_what_is_there_is_answered_at_once(server: Server, info: QueueInfo, call: Any) -> None:
    server.post()
    answer = server.call(call[0], f"{call[1]}&wait=20")
    assert answer.bodies == ["m"]
    assert not server.waiting._requests and server.core.arrivals.is_idle


@calls
def test_message_that_comes_is_answered(server: Server, info: QueueInfo, call: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(looks.Looks, "add", lambda self, queue: None)  # without looks: it is told
    waiting = server.wait(call)
    server.post()
    answer = waiting.result(DEADLINE)
    assert answer.bodies == ["m"]
    assert answer.status == (201 if call is CLAIM else 200)
    server.until(lambda: server.core.arrivals.is_idle)
    assert not server.waiting._requests and not server.waiting._by_project


@calls
def test_nothing_is_answered_when_the_time_is_over(server: Server, info: QueueInfo, call: Any) -> None:
    start = time.monotonic()
    answer = server.wait(call, 1).result(DEADLINE)
    assert (answer.status, answer.document) == NOTHING[call]
    assert answer.at - start >= 1
    server.until(lambda: not server.waiting._requests)


@calls
def test_queue_that_does_not_exist_can_be_waited_for(server: Server, call: Any) -> None:
    waiting = server.wait(call)
    server.post()
    assert waiting.result(DEADLINE).bodies == ["m"]


def test_who_waits_holds_no_thread(server: Server, info: QueueInfo) -> None:
    waiting = [server.wait(CLAIM) for _ in range(20)]  # with two threads
    assert server.call(*LIST).document == {"messages": [], "links": []}
    server.post(20)
    answers = [each.result(DEADLINE) for each in waiting]
    assert len({answer.document["messages"][0]["id"] for answer in answers}) == 20


def test_those_who_have_waited_longest_come_first(server: Server, info: QueueInfo, monkeypatch: Any) -> None:
    monkeypatch.setattr(looks.Looks, "add", lambda self, queue: None)  # a look may wake one more, in vain
    waiting = [server.wait(POP) for _ in range(5)]
    for number in range(5):
        server.until(server.is_quiet)  # who is answered wakes the next one, which would look while this is posted
        server.post()
        assert waiting[number].result(DEADLINE).bodies == ["m"]
        assert not any(other.done() for other in waiting[number + 1:])


def test_timer_that_is_early_ends_the_wait(server: Server, info: QueueInfo, monkeypatch: Any) -> None:
    monkeypatch.setattr(looks.Looks, "add", lambda self, queue: None)  # so that it has to look once more itself
    waiting = server.wait(POP)
    (request,) = server.waiting._requests
    time.sleep(FRESH + 0.1)
    begun = time.monotonic()
    server.streams.call(request._time_over)
    assert waiting.result(DEADLINE).bodies == []
    assert time.monotonic() - begun < 10


def test_all_lists_that_wait_show_a_message(server: Server, info: QueueInfo) -> None:
    waiting = [server.wait(LIST) for _ in range(5)]
    server.post()
    assert [each.result(DEADLINE).bodies for each in waiting] == [["m"]] * 5


def test_list_waits_after_its_marker(server: Server, info: QueueInfo) -> None:
    server.post(3)
    page = server.call(*LIST)
    href = page.document["links"][0]["href"]
    waiting = server.wait(("GET", href))
    time.sleep(0.5)
    assert not waiting.done()
    server.post(body=b'"next"')
    answer = waiting.result(DEADLINE)
    assert answer.bodies == ["next"]
    assert "wait=20" in answer.document["links"][0]["href"]


def test_own_messages_are_no_reason_to_answer_without_echo(server: Server, info: QueueInfo) -> None:
    waiting = server.wait(("GET", f"{MESSAGES}?limit=5"))
    server.call("POST", MESSAGES, {"messages": [{"body": "own"}]})
    time.sleep(0.5)
    assert not waiting.done()
    server.post(body=b'"other"')
    assert waiting.result(DEADLINE).bodies == ["other"]


def test_released_messages_are_answered(server: Server, info: QueueInfo) -> None:
    server.post()
    claimed = server.call(*CLAIM)
    waiting = server.wait(POP)
    assert server.call("DELETE", claimed.headers["Location"]).status == 204
    assert waiting.result(DEADLINE).bodies == ["m"]


def test_next_of_a_group_is_answered_when_the_one_before_is_deleted(server: Server) -> None:
    server.core.queues.create("project", "queue", {"_fifo": True})
    server.post(2)
    first = server.call(*CLAIM).document["messages"][0]
    waiting = server.wait(CLAIM)
    time.sleep(0.3)
    assert not waiting.done()
    assert server.call("DELETE", first["href"]).status == 204
    assert waiting.result(DEADLINE).document["messages"][0]["id"] != first["id"]


def test_head_waits_too(server: Server, info: QueueInfo) -> None:
    waiting = server.wait(("HEAD", LIST[1]))
    server.post()
    answer = waiting.result(DEADLINE)
    assert (answer.status, answer.document) == (200, None)
    assert int(answer.headers["Content-Length"]) > 100


def test_connection_goes_on_after_a_request_that_waited(server: Server, info: QueueInfo) -> None:
    connection = server.connect()
    for _ in range(3):
        server_waits = in_background(lambda: (time.sleep(0.2), server.post()))
        connection.request("DELETE", f"{POP[1]}&wait=20", headers=HEADERS)
        assert Answer(connection.getresponse()).bodies == ["m"]
        server_waits.result(DEADLINE)
    connection.close()


# -- how to ask -----------------------------------------------------------------------------------------------------


@calls
@pytest.mark.parametrize("wait", ["-1", "21", "x", "", "1.5", "99999999999999999999999"])
def test_wait_that_is_wrong_is_refused(server: Server, info: QueueInfo, call: Any, wait: str) -> None:
    answer = server.call(call[0], f"{call[1]}&wait={wait}")
    assert answer.status == 400
    assert answer.document["title"] == "Invalid query"
    assert answer.document["description"].startswith("wait must be ")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_ids_are_not_waited_for(server: Server, info: QueueInfo, method: str) -> None:
    answer = server.call(method, f"{MESSAGES}?ids=a&wait=5")
    assert answer.status == 400
    assert "can't be used with ids" in answer.document["description"]
    assert server.call(method, f"{MESSAGES}?ids=a", Prefer="wait=5").status == (404 if method == "GET" else 204)


def test_bound_is_an_option(make: Callable[..., Server], info: QueueInfo, core: Core) -> None:
    core.limits = type(core.limits)(max_wait=2)
    server = make()
    assert server.call("GET", f"{LIST[1]}&wait=3").document["description"] == "wait must be from 0 to 2 seconds"
    answer = server.call(*POP, Prefer="wait=3")
    assert (answer.document, answer.headers["Preference-Applied"]) == ({"messages": []}, "wait=2")


@calls
def test_zero_does_not_wait(server: Server, info: QueueInfo, call: Any) -> None:
    answer = server.call(call[0], f"{call[1]}&wait=0", Prefer="wait=20")
    assert (answer.status, answer.document) == NOTHING[call]
    assert "Preference-Applied" not in answer.headers


@calls
def test_preference_is_applied(server: Server, info: QueueInfo, call: Any) -> None:
    waiting = in_background(lambda: server.call(*call, Prefer="respond-async, wait=19"))
    server.until(lambda: server.waiting._requests)
    server.post()
    answer = waiting.result(DEADLINE)
    assert answer.bodies == ["m"]
    assert answer.headers["Preference-Applied"] == "wait=19"


def test_query_wins_over_the_header(server: Server, info: QueueInfo) -> None:
    start = time.monotonic()
    answer = server.call("DELETE", f"{POP[1]}&wait=1", Prefer="wait=20")
    assert time.monotonic() - start < 15
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize(("header", "seconds"), [
    ("wait=10", 10), ("Wait=10", 10), (" wait = 10 ", 10), ('wait="10"', 10), ("wait=10, wait=3", 10),
    ("respond-async,wait=7", 7), ('foo; a="b, wait=3", wait=5', 5), ('foo="wait=3, \\"", wait=6', 6),
    ("return=minimal; wait=9, wait=2", 2), ("wait=8; x=y", 8),
    ("", 0), ("wait", 0), ("wait=", 0), ("wait=-5", 0), ("wait=x", 0), ("wait=1.5", 0), ("wait=1e3", 0),
    ("wait=99999999999999", 0), ("wait=x, wait=5", 0), ("=,wait=5", 0), ('"wait=5"', 0), ("waits=5", 0),
    ("wait=٣", 0), (f"{'a' * 1000}, wait=5", 0),
])
def test_preferences_are_read_as_rfc_7240_says(header: str, seconds: int) -> None:
    assert preferred_wait(header) == seconds


@pytest.mark.parametrize("header", ["wait=x", "wait=-1", "wait", "handling=lenient"])
def test_preference_that_can_not_be_used_is_ignored(server: Server, info: QueueInfo, header: str) -> None:
    answer = server.call(*POP, Prefer=header)
    assert (answer.status, answer.document) == (200, {"messages": []})
    assert "Preference-Applied" not in answer.headers


# -- what goes wrong ------------------------------------------------------------------------------------------------


@calls
@pytest.mark.parametrize("part", ["broker", "side-store"])
def test_dependency_that_goes_away_is_503(server: Server, info: QueueInfo, call: Any, part: str) -> None:
    waiting = [server.wait(call) for _ in range(5)]

    def gone(*args: Any) -> Any:
        raise BridgeUnavailable("it is gone") if part == "broker" else StoreUnavailable("it is gone")

    if part == "broker":
        server.core.pool.bridge.depth = gone
    else:
        server.core.pool.store.landed.ready = gone
    for answer in (each.result(DEADLINE) for each in waiting):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["X-Openstack-Request-Id"].startswith("req-")
    server.until(lambda: not server.waiting._requests)


def test_error_of_a_look_after_a_wake_is_answered(server: Server, info: QueueInfo) -> None:
    waiting = server.wait(POP)

    def gone(*args: Any) -> Any:
        raise StoreUnavailable("it is gone")

    server.core.pool.store.landed.find_free = gone
    server.post()
    assert waiting.result(DEADLINE).status == 503
    server.until(lambda: server.core.arrivals.is_idle)


def test_client_that_goes_away_frees_its_place(server: Server, info: QueueInfo) -> None:
    connection = server.connect()
    connection.request("DELETE", f"{POP[1]}&wait=20", headers=HEADERS)
    server.until(lambda: server.waiting._requests)
    other = server.wait(POP)
    assert metrics.WAITING_REQUESTS._value.get() == 2
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    server.until(lambda: len(server.waiting._requests) == 1)
    server.post()
    assert other.result(DEADLINE).bodies == ["m"]
    server.until(lambda: not server.waiting._requests)
    assert metrics.WAITING_REQUESTS._value.get() == 0


@calls
def test_those_who_wait_are_answered_when_it_drains(server: Server, info: QueueInfo, call: Any) -> None:
    waiting = [server.wait(call) for _ in range(5)]
    start = time.monotonic()
    server.listener.draining = True
    server.waiting.drain()
    for answer in (each.result(DEADLINE) for each in waiting):
        assert (answer.status, answer.document) == NOTHING[call]
        assert answer.headers["Connection"] == "close"
        assert answer.at - start < 10
    answer = server.call(call[0], f"{call[1]}&wait=20")
    assert (answer.status, answer.document) == NOTHING[call]


def test_project_that_waits_too_often_is_refused(make: Callable[..., Server], info: QueueInfo) -> None:
    server = make(most=2)
    waiting = [server.wait(POP) for _ in range(2)]
    answer = server.call("DELETE", f"{POP[1]}&wait=20")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    other = in_background(lambda: server.call("DELETE", f"{POP[1]}&wait=1", X_Project_ID="other"))
    assert other.result(DEADLINE).status == 200
    server.post(3)
    assert [each.result(DEADLINE).bodies for each in waiting] == [["m"]] * 2
    assert server.call("DELETE", f"{POP[1]}&wait=20").bodies == ["m"]


def test_server_without_room_answers_at_once(server: Server, info: QueueInfo) -> None:
    server.listener._max_waiting = 1
    waiting = server.wait(POP)
    assert server.call("DELETE", f"{POP[1]}&wait=20").document == {"messages": []}
    server.post()
    assert waiting.result(DEADLINE).bodies == ["m"]
    server.until(lambda: not server.waiting._requests)


def test_server_that_can_not_suspend_answers_at_once(server: Server, info: QueueInfo) -> None:
    client = server.app.test_client()
    response = client.delete(f"{POP[1]}&wait=20", headers=HEADERS)
    assert (response.status_code, response.json) == (200, {"messages": []})
    assert server.core.arrivals.is_idle


def test_without_the_short_way_it_is_answered_at_once(
    make: Callable[..., Server], info: QueueInfo
) -> None:
    server = make(wsgi={"fast_dispatch": False})
    assert server.call("DELETE", f"{POP[1]}&wait=20").document == {"messages": []}


def test_pages_of_other_origins_may_wait(make: Callable[..., Server], info: QueueInfo) -> None:
    server = make(cors={"allowed_origin": "https://shop.example"})
    waiting = server.wait(POP, Origin="https://shop.example")
    server.post()
    answer = waiting.result(DEADLINE)
    assert answer.bodies == ["m"]
    assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
    assert "Preference-Applied" in answer.headers["Access-Control-Expose-Headers"]
    assert server.call("DELETE", "/v2/queues/queue", Origin="https://shop.example").status == 204


def test_path_behind_a_proxy_that_was_sent_twice_is_understood_when_it_is_resumed(
    make: Callable[..., Server], info: QueueInfo
) -> None:
    server = make(wsgi={"prefix": "/messaging"})
    waiting = server.wait(("DELETE", f"/messaging/messaging{POP[1]}"))
    server.post()
    assert waiting.result(DEADLINE).bodies == ["m"]


# -- what is recorded -----------------------------------------------------------------------------------------------


def test_request_is_recorded_once_and_without_the_time_that_it_waited(
    make: Callable[..., Server], info: QueueInfo, tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG, "gateway.web.serving")
    server = make(audit={"file": f"{tmp_path}/audit.log"})
    requests = metrics.REQUESTS.labels("/v2/queues/<queue>/messages", "DELETE", 200)
    count, seconds = sum(bucket.get() for bucket in requests._buckets), requests._sum.get()
    ids: list[str] = []
    pop = server.core.messages.pop
    server.core.messages.pop = lambda *args: ids.append(REQUEST_ID.get()) or pop(*args)
    waiting = server.wait(POP)
    time.sleep(3.0)
    server.post()
    answer = waiting.result(DEADLINE)
    server.until(lambda: sum(bucket.get() for bucket in requests._buckets) > count)
    assert sum(bucket.get() for bucket in requests._buckets) == count + 1
    assert 0 < requests._sum.get() - seconds < 2.5
    (line,) = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    request_id = answer.headers["X-Openstack-Request-Id"]
    assert request_id in json.dumps(line)
    assert len(ids) >= 2 and set(ids) == {request_id}
    assert caplog.text.count("DELETE /v2/queues/queue/messages 200") == 1


def test_wakes_are_counted(server: Server, info: QueueInfo) -> None:
    found, nothing = (metrics.WAKES.labels(outcome) for outcome in ("found", "nothing"))
    before = found._value.get(), nothing._value.get()
    waiting = server.wait(("GET", f"{MESSAGES}?limit=5"))
    server.call("POST", MESSAGES, {"messages": [{"body": "own"}]})  # a false alarm
    server.until(lambda: nothing._value.get() > before[1])
    server.post()
    waiting.result(DEADLINE)
    assert found._value.get() == before[0] + 1


# -- many at once ---------------------------------------------------------------------------------------------------


def test_no_message_is_left_while_somebody_waits(server: Server, info: QueueInfo, monkeypatch: Any) -> None:
    """Without looks, so that only what is told wakes: nothing may be lost on the way."""
    monkeypatch.setattr(looks.Looks, "add", lambda self, queue: None)
    messages, got, lock = 200, [], threading.Lock()

    def work() -> None:
        connection = server.connect()
        while len(got) < messages:
            connection.request("DELETE", f"{POP[1]}&wait=5", headers=HEADERS)
            answer = Answer(connection.getresponse())
            with lock:
                got.extend(message["id"] for message in answer.document["messages"])
        connection.close()

    workers = [in_background(work) for _ in range(6)]
    for number in range(messages):
        server.post()
        time.sleep(0.001 * (number % 7))
    for worker in workers:
        worker.result(60)
    assert len(set(got)) == len(got) == messages
