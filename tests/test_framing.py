"""Where a request ends, and what is refused since two servers could see two requests in it (RFC 9112)."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from waitress.adjustments import Adjustments

import gateway.server.loop
from gateway.server.chunks import MAX_LINE, MAX_TRAILERS, SLACK
from gateway.server.listening import listen
from gateway.server.loop import Listener
from gateway.server.parser import MAX_FIELDS, MAX_FIELDS_SIZE, MAX_HEAD, Parser
from gateway.web.errors import json_error
from tests.test_server import PATIENCE, App, Client, until, work, wsgi_options

#: Bytes that a body must not have.
TOO_MANY = 2000

PURGE = b'{"resource_types": ["subscriptions"]}'
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PURGE), PURGE)

#: What a client sends behind each request of the table; nobody must see it after a refusal.
NEXT = b"GET /next HTTP/1.1\r\nHost: gateway\r\n\r\n"


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1", host: bool = True) -> bytes:
    lines = [b"POST /purge HTTP/%s" % version, *([b"Host: gateway"] if host else []), *fields, b"", body]
    return b"\r\n".join(lines)


def get(target: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"GET %s HTTP/1.1" % target, b"Host: gateway", *fields, b"", b""])


TE = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(PURGE)

#: What is refused, and the status; the connection is closed.
REFUSED: dict[str, tuple[bytes, int]] = {
    "chunks in HTTP/1.0": (post(TE, body=CHUNKED, version=b"1.0"), 400),
    "chunks in HTTP/1.0, kept alive": (post(TE, b"Connection: keep-alive", body=CHUNKED, version=b"1.0"), 400),
    "coding in HTTP/1.0, empty": (post(b"Transfer-Encoding:", LENGTH, body=PURGE, version=b"1.0"), 400),
    "gzip": (post(b"Transfer-Encoding: gzip", body=CHUNKED), 501),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED), 501),
    "identity": (post(b"Transfer-Encoding: identity", LENGTH, body=PURGE), 400),
    "unknown coding": (post(b"Transfer-Encoding: xchunked", body=CHUNKED), 501),
    "coding with parameter": (post(b"Transfer-Encoding: chunked;q=1", body=CHUNKED), 501),
    "coding in quotes": (post(b'Transfer-Encoding: "chunked"', body=CHUNKED), 501),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked", body=CHUNKED), 400),
    "chunked in two headers": (post(TE, TE, body=CHUNKED), 400),
    "no coding": (post(b"Transfer-Encoding:", body=CHUNKED), 400),
    "empty list of codings": (post(b"Transfer-Encoding: ,", body=CHUNKED), 400),
    "length and chunks": (post(LENGTH, TE, body=CHUNKED), 400),
    "chunks and length": (post(TE, LENGTH, body=CHUNKED), 400),
    "chunks and no length": (post(TE, b"Content-Length: 0", body=CHUNKED), 400),
    "two lengths": (post(b"Content-Length: 3", b"Content-Length: 4", body=b"abc"), 400),
    "two lengths that agree": (post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), 400),
    "list of lengths": (post(b"Content-Length: 3, 3", body=b"abc"), 400),
    "length with plus": (post(b"Content-Length: +3", body=b"abc"), 400),
    "length with minus": (post(b"Content-Length: -3", body=b"abc"), 400),
    "length with underscore": (post(b"Content-Length: 0_3", body=b"abc"), 400),
    "length with space": (post(b"Content-Length: 0 3", body=b"abc"), 400),
    "length with form feed": (post(b"Content-Length: 3\x0c", body=b"abc"), 400),
    "length in hexadecimal": (post(b"Content-Length: 0x3", body=b"abc"), 400),
    "length of other digits": (post("Content-Length: ٣".encode(), body=b"abc"), 400),
    "length without digits": (post(b"Content-Length:", body=b"abc"), 400),
    "length of 5000 digits": (post(b"Content-Length: " + b"0" * 5000 + b"3", body=b"abc"), 400),
    "length beyond the limit": (post(b"Content-Length: %d" % TOO_MANY, body=b"abc"), 400),
    "two lines for a header": (post(b"X-Folded: a", b" b", LENGTH, body=PURGE), 400),
    "length in a folded line": (post(b"X-Folded: a", b" Content-Length: 3", body=b"abc"), 400),
    "space before the first header": (b"GET / HTTP/1.1\r\n Host: gateway\r\n\r\n", 400),
    "space before the colon": (post(b"Content-Length : 3", body=b"abc"), 400),
    "tab before the colon": (post(b"Content-Length\t: 3", body=b"abc"), 400),
    "header without a colon": (get(b"/", b"nothing"), 400),
    "header without a name": (get(b"/", b": x"), 400),
    "name with brackets": (get(b"/", b"X(): x"), 400),
    "bare line feed in a header": (get(b"/", b"X: a\nContent-Length: 3"), 400),
    "bare carriage return in a header": (get(b"/", b"X: a\rContent-Length: 3"), 400),
    "bare line feed in the request line": (b"GET / HTTP/1.1\nHost: gateway\r\n\r\n", 400),
    "NUL in a header": (get(b"/", b"X: a\x00b"), 400),
    "DEL in a header": (get(b"/", b"X: a\x7fb"), 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (get(b"/", b"Host: gateway"), 400),
    "two hosts, spelt otherwise": (get(b"/", b"hOST: other"), 400),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: gateway/x\r\n\r\n", 400),
    "host with a user": (b"GET / HTTP/1.1\r\nHost: user@gateway\r\n\r\n", 400),
    "list of hosts": (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
    "host and a space": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/1.2": (post(TE, body=CHUNKED, version=b"1.2"), 505),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.1 with a tail": (b"GET / HTTP/1.1 x\r\nHost: gateway\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: gateway\r\n\r\n", 400),
    "space before the method": (b" GET / HTTP/1.1\r\nHost: gateway\r\n\r\n", 400),
    "lower case": (b"get / HTTP/1.1\r\nHost: gateway\r\n\r\n", 400),
    "target without a slash": (get(b"purge"), 400),
    "target of another scheme": (get(b"ftp://gateway/purge"), 400),
    "target with a user": (get(b"http://user@gateway/purge"), 400),
    "target without a host": (get(b"http:///purge"), 400),
    "target of CONNECT": (b"CONNECT gateway:80 HTTP/1.1\r\nHost: gateway\r\n\r\n", 400),
    "asterisk": (get(b"*"), 400),
    "fragment": (get(b"/purge#x"), 400),
    "path that is not ASCII": (get("/ü".encode()), 400),
    "other expectation": (post(b"Expect: 200-ok", LENGTH, body=PURGE), 417),
    "two expectations": (post(b"Expect: 100-continue, x", LENGTH, body=PURGE), 417),
    "more headers than any client sends": (get(b"/", *[b"abc:"] * (MAX_FIELDS + 1)), 431),
    "headers that have no end": (get(b"/", *[b"a:"] * 5000)[:-4], 431),
    "header that is too long": (get(b"/", b"X: " + b"x" * MAX_FIELDS_SIZE), 431),
    "header that has no end": (get(b"/", b"X: " + b"x" * (MAX_FIELDS_SIZE + 1)), 431),
    "request line that is too long": (get(b"/" + b"x" * MAX_HEAD), 414),
    "request line that has no end": (b"GET /" + b"x" * MAX_HEAD, 414),
    "chunk without a size": (post(TE, body=b"\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk of an odd size": (post(TE, body=b"0x3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk of a signed size": (post(TE, body=b"+3\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk and a space": (post(TE, body=b"3 \r\nabc\r\n0\r\n\r\n"), 400),
    "chunk with a size in two words": (post(TE, body=b"3_0\r\nabc\r\n0\r\n\r\n"), 400),
    "chunk that is longer than it says": (post(TE, body=b"3\r\nabcd\r\n0\r\n\r\n"), 400),
    "chunk that ends in a line feed": (post(TE, body=b"3\r\nabc\n0\r\n\r\n"), 400),
    "size that ends in a line feed": (post(TE, body=b"3\nabc\r\n0\r\n\r\n"), 400),
    "chunk of a huge size": (post(TE, body=b"f" * 15 + b"\r\nabc"), 400),
    "chunk of a size with many digits": (post(TE, body=b"0" * 50 + b"3\r\nabc\r\n0\r\n\r\n"), 400),
    "extension that is too long": (post(TE, body=b"3;" + b"x" * MAX_LINE + b"\r\nabc\r\n0\r\n\r\n"), 400),
    "extension that has no end": (post(TE, body=b"3;" + b"x" * (MAX_LINE + 1)), 400),
    "extensions that carry nothing": (post(TE, body=(b"1;" + b"x" * 1000 + b"\r\na\r\n") * 100), 400),
    "trailer that is none": (post(TE, body=b"0\r\nGET / HTTP/1.1\r\n\r\n"), 400),
    "trailer that is too long": (post(TE, body=b"0\r\nX: " + b"x" * MAX_TRAILERS + b"\r\n\r\n"), 431),
    "trailer that has no end": (post(TE, body=b"0\r\nX: " + b"x" * (MAX_TRAILERS + 1)), 431),
    "trailers that have no end": (post(TE, body=b"0\r\n" + b"X: x\r\n" * MAX_TRAILERS), 431),
    "chunks beyond the limit": (post(TE, body=(b"64\r\n" + b"x" * 100 + b"\r\n") * (TOO_MANY // 100)), 400),
}

#: What is served, with the path and the body that the application sees; the next request is served too.
SERVED: dict[str, tuple[bytes, str, bytes]] = {
    "length": (post(LENGTH, body=PURGE), "/purge", PURGE),
    "chunks": (post(TE, body=CHUNKED), "/purge", PURGE),
    "chunks in capitals": (post(b"TRANSFER-ENCODING: Chunked", body=CHUNKED), "/purge", PURGE),
    "chunks with extensions": (post(TE, body=b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n'), "/purge", b"abc"),
    "chunks and trailers": (post(TE, body=b"003\r\nabc\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n"), "/purge", b"abc"),
    "tiny chunks": (post(TE, body=b"1\r\nx\r\n" * 1500 + b"0\r\n\r\n"), "/purge", b"x" * 1500),
    "as much as may be": (post(TE, body=b"7cf\r\n" + b"x" * 1999 + b"\r\n0\r\n\r\n"), "/purge", b"x" * 1999),
    "no body": (post(), "/purge", b""),
    "length of nothing": (post(b"Content-Length: 0"), "/purge", b""),
    "expectation with a body": (post(b"Expect: 100-continue", LENGTH, body=PURGE), "/purge", PURGE),
    "expectation without a body": (get(b"/1", b"Expect: 100-continue"), "/1", b""),
    "expectation of nothing": (post(b"Expect: 100-Continue", b"Content-Length: 0"), "/purge", b""),
    "line end of the request before": (b"\r\n" + get(b"/1"), "/1", b""),
    "URI": (get(b"http://other:80/1?2"), "/1", b""),
    "URI in capitals": (get(b"HTTPS://other/1"), "/1", b""),
    "URI without a path": (get(b"http://other"), "/", b""),
    "URI of an IPv6 address": (get(b"http://[::1]:80/1"), "/1", b""),
    "name with an underscore": (post(b"Content_Length: 3"), "/purge", b""),
    "host without a name": (b"GET /1 HTTP/1.1\r\nHost:\r\n\r\n", "/1", b""),
    "as many headers as may be": (get(b"/1", *[b"abc: d"] * (MAX_FIELDS - 1)), "/1", b""),
    "value of a token's length": (get(b"/1", b"X-Auth-Token: " + b"x" * 8192), "/1", b""),
    "long list of ids": (get(b"/1?ids=" + b"x" * 60_000), "/1", b""),
}


class Echo(App):
    """Keeps what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, bytes, dict[str, Any]]] = []

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.requests.append((environ["PATH_INFO"], environ["wsgi.input"].read(), environ))
        start_response("200 OK", [("Content-Length", "0")])
        return []


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def listener(echo: Echo) -> Iterator[Listener]:
    listener = Listener(echo, listen("127.0.0.1", 0), wsgi_options(), TOO_MANY - 1, error_body=json_error)
    yield listener
    listener.task_dispatcher.shutdown(timeout=PATIENCE)
    for connection in list(listener.active_channels.values()):
        connection.handle_close()
    listener.close()


def feed_whole(client: Client, listener: Listener, data: bytes) -> None:
    client.send(data)


def feed_in_pieces(client: Client, listener: Listener, data: bytes) -> None:
    """So that each line end comes in two parts once; the server reads in between."""
    for start in range(0, len(data), 1 + len(data) // 40):
        client.send(data[start:start + 1 + len(data) // 40])
        listener.turn(0)


Feed = Callable[[Client, Listener, bytes], None]


@pytest.mark.parametrize("feed", [feed_whole, feed_in_pieces])
@pytest.mark.parametrize("name", REFUSED)
def test_request_is_refused_and_nothing_behind_it_is_served(
    listener: Listener, echo: Echo, name: str, feed: Feed, caplog: pytest.LogCaptureFixture
) -> None:
    data, status = REFUSED[name]
    client = Client(listener)
    with contextlib.suppress(OSError):  # it may be refused before the last piece
        feed(client, listener, data + NEXT)
    client.until_closed()

    assert echo.requests == []
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].split(b" ")[1] == b"%d" % status, client.received
    assert b"Connection: close" in head and b"Content-Type: application/json" in head
    assert all(json.loads(body)[key] for key in ("title", "description"))
    assert client.received.count(b"X-Openstack-Request-Id") == 1
    assert caplog.text == ""


@pytest.mark.parametrize("feed", [feed_whole, feed_in_pieces])
@pytest.mark.parametrize("name", SERVED)
def test_request_is_served_and_so_is_the_next(listener: Listener, echo: Echo, name: str, feed: Feed) -> None:
    data, path, body = SERVED[name]
    client = Client(listener)
    feed(client, listener, data + NEXT)
    until(listener, lambda: client.look().count(b"HTTP/1.1 200") == 2)

    assert [request[:2] for request in echo.requests] == [(path, body), ("/next", b"")]
    assert "HTTP_TRANSFER_ENCODING" not in echo.requests[0][2]
    assert echo.requests[0][2].get("CONTENT_LENGTH", "0") == str(len(body))
    assert echo.requests[1][2].keys() - echo.requests[0][2].keys() == set()


@pytest.mark.parametrize("words", [b"close", b"Close", b"close, TE", b"TE ,\tclose", b"keep-alive, close"])
def test_connection_is_closed_when_the_client_says_so(listener: Listener, echo: Echo, words: bytes) -> None:
    client = Client(listener).send(get(b"/", b"Connection: " + words))
    client.until_closed()
    assert client.received.startswith(b"HTTP/1.1 200") and b"Connection: close" in client.received


def test_client_that_waits_is_told_to_go_on(listener: Listener, echo: Echo) -> None:
    client = Client(listener).send(post(b"Expect: 100-continue", LENGTH))
    until(listener, lambda: client.look() == b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(PURGE)
    until(listener, lambda: b"HTTP/1.1 200" in client.look())
    assert echo.requests[0][:2] == ("/purge", PURGE)


def test_client_whose_body_is_too_large_is_not_told_to_go_on(listener: Listener) -> None:
    client = Client(listener).send(post(b"Expect: 100-continue", b"Content-Length: 1000000"))
    client.until_closed()
    assert b"100 Continue" not in client.received and b" 400 Bad Request" in client.received


def test_empty_lines_are_no_requests(listener: Listener, echo: Echo) -> None:
    client = Client(listener).send(b"\r\n" * 20 + NEXT)
    client.until_closed()
    assert b" 400 Bad Request" in client.received and echo.requests == []


def test_refusal_of_head_has_no_body(listener: Listener) -> None:
    client = Client(listener).send(b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    client.until_closed()
    assert client.received.startswith(b"HTTP/1.1 400") and client.received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("data", [
    post(LENGTH, b"abc: d" + b"e" * 10_000), post(LENGTH, *[b"abc: d"] * 90), post(TE, body=b"3;" + b"x" * 900),
    post(TE, body=b"7cf\r\n" + b"x" * 1500), get(b"/" + b"x" * 30_000)[:-4], post(LENGTH, body=b"abc"),
], ids=["long header", "many headers", "chunk's line", "chunk", "request line", "body"])
def test_what_is_kept_of_a_request_is_counted(listener: Listener, data: bytes) -> None:
    client = Client(listener).send(data)
    work(listener)
    (connection,) = listener.active_channels.values()
    assert connection.buffered >= len(data) // 2 + (len(data) if len(data) > 5000 else 0) // 2 - 200
    assert not client.closed


def test_connections_with_parsed_headers_are_freed(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were not counted, nor were the lines between chunks: a thousand of them took a gigabyte."""
    monkeypatch.setattr(gateway.server.loop, "MAX_BUFFERED", 100_000)
    clients = [Client(listener).send(post(LENGTH, b"X: " + b"x" * 20_000)) for _ in range(10)]
    until(listener, lambda: [client.look() for client in clients] and sum(client.closed for client in clients) >= 5)
    assert sum(connection.buffered for connection in listener.active_channels.values()) <= 100_000


def test_body_in_small_pieces_is_not_slower_than_its_size() -> None:
    """Each byte is looked at once. waitress copied the rest for each chunk, and went through spaces squared times."""
    def seconds(data: bytes) -> float:
        parser = Parser(Adjustments(max_request_body_size=1 << 30))
        start = time.process_time()
        while data and not parser.completed:
            data = data[parser.received(data[:65536]):]
        assert parser.completed and parser.error is None
        parser.close()
        return time.process_time() - start

    chunks = b"8\r\n12345678\r\n" * 40_000
    assert seconds(post(TE, body=chunks + b"0\r\n\r\n")) < 1.0
    assert seconds(get(b"/", b"X:" + b" " * 30_000 + b"x")) < 0.1


def test_body_in_small_pieces_lets_others_have_their_turn(listener: Listener, echo: Echo) -> None:
    slow = Client(listener).send(post(TE, body=b"1\r\nx\r\n" * 1500 + b"0\r\n\r\n"))
    for _ in range(3):
        listener.turn(0.1)
    (connection,) = listener.active_channels.values()
    assert connection.ahead and connection.buffered > len(connection.ahead)
    Client(listener).send(NEXT).answers(1)
    until(listener, lambda: b"HTTP/1.1 200" in slow.look())
    assert [path for path, _, _ in echo.requests] == ["/next", "/purge"]


def test_lines_of_sizes_are_bounded_by_what_they_carry() -> None:
    parser = Parser(Adjustments(max_request_body_size=1 << 30))
    data = post(TE, body=b"1\r\nx\r\n" * (SLACK // 3 + 1))
    while data and not parser.completed:
        data = data[parser.received(data[:65536]):]
    assert parser.error is not None and "too small" in parser.error.body
