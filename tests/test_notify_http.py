"""Sending to receivers of several habits: real sockets on localhost."""

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.subscriptions.addresses import Rules
from gateway.notify.connecting import NotNow, Resolver
from gateway.notify.http import Answer, Sender
from gateway.notify.settings import HttpSettings

LOCAL = Rules(["127.0.0.1/32", "[::1]"])
PATIENT = HttpSettings(max_response_size=4096)
QUICK = HttpSettings(connect_timeout=0.15, request_timeout=0.3, max_response_size=4096)

Habit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def shown(rules: Rules) -> Callable[[str, int], Any]:
    """Judges by the rules, but what answers may be seen."""
    return lambda ip, port: replace(rules.judge(ip, port), excepted=False)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return head + await reader.readexactly(length)


def answering(answer: bytes, seen: list[bytes] | None = None) -> Habit:
    async def habit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            if seen is not None:
                seen.append(request)
            writer.write(answer)
            await writer.drain()

    return habit


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"


@asynccontextmanager
async def receiver(habit: Habit, **options: Any) -> Any:
    """The port of a server; the number of its connections is in the list."""
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        try:
            await habit(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()
        for writer in connections:
            writer.transport.abort()


def run(
    habit: Habit, url: str = "http://127.0.0.1:{}/", judge: Any = None, settings: HttpSettings = PATIENT,
    times: int = 1, **options: Any,
) -> tuple[list[Answer], int]:
    """The answers to some posts, one after the other, and how many connections they took."""

    async def send() -> tuple[list[Answer], int]:
        async with receiver(habit, **options) as (port, connections):
            sender = Sender(settings)
            line = sender.line(judge or shown(LOCAL))
            try:
                return [
                    await line.send(url.format(port), {"content-type": "x/y"}, b"body", lambda: True)
                    for _ in range(times)
                ], len(connections)
            finally:
                await line.close()
                await sender.close()

    return asyncio.run(send())


def test_posts_what_it_is_given_and_nothing_more() -> None:
    seen: list[bytes] = []
    (answer, _), connections = run(answering(OK, seen), times=2)
    assert (answer.status, answer.body, answer.reason, connections) == (200, "ok", "", 1)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert head.startswith(b"POST / HTTP/1.1\r\n") and body == b"body"
    assert names == {b"host", b"content-type", b"content-length"}


def test_redirects_are_not_followed() -> None:
    seen: list[bytes] = []
    (answer,), _ = run(answering(
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", seen
    ))
    assert (answer.status, len(seen)) == (302, 1)


def test_cookies_and_environment_have_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    seen: list[bytes] = []
    run(answering(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n", seen), times=2)
    assert len(seen) == 2 and b"ookie" not in seen[1]


def test_one_deadline_for_hanging_and_trickling() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async def trickle_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in OK * 100:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    async def informs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    for habit in hang, trickle_head, informs:
        start = time.monotonic()
        (answer,), _ = run(habit, settings=QUICK)
        assert (answer.status, answer.reason) == (0, "timeout"), habit
        assert time.monotonic() - start < 1.5


def test_a_status_counts_however_long_its_body_trickles() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    start = time.monotonic()
    (answer,), _ = run(trickle, settings=QUICK)
    assert answer.status == 200 and set(answer.body) == {"a"}
    assert time.monotonic() - start < 1.5


def test_endless_answer_is_cut() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 500 Oh\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(b"a" * 1000)
            sent += 1000
            await writer.drain()

    (answer, _), connections = run(endless, times=2)
    assert (answer.status, len(answer.body), connections) == (500, 1024, 2)
    assert sent < 20_000_000


@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 4000) for i in range(5)) + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 1000 + b"\r\n",
    b"SSH-2.0-OpenSSH\r\n\r\n",
])
def test_answers_that_are_no_bounded_http_fail(answer: bytes) -> None:
    (got,), _ = run(answering(answer))
    assert (got.status, got.reason) == (0, "response")


def test_compressed_bodies_stay_compressed() -> None:
    bomb = b"\x1f\x8b" + b"\0" * 100
    (answer,), _ = run(answering(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/plain\r\nContent-Length: 102\r\n\r\n" + bomb
    ))
    assert answer.status == 200


def test_reset_and_refused() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    (answer,), _ = run(reset)
    assert (answer.status, answer.reason) == (0, "connection")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (answer,), _ = run(answering(OK), f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert (answer.status, answer.reason) == (0, "connection")


def test_a_kept_connection_that_was_closed_is_no_failure() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()
        await reader.read(1)  # and closes as the next request comes

    (_, second), connections = run(once, times=2)
    assert (second.status, connections) == (200, 2)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "0x7f.1", "2130706433", "0", "①②⑦.0.0.1"])
def test_no_byte_goes_to_a_refused_address(host: str) -> None:
    seen: list[bytes] = []
    (answer,), connections = run(answering(OK, seen), f"http://{host}:{{}}/", Rules().judge)
    assert (answer.status, answer.reason) == (0, "address")
    assert (connections, seen) == (0, [])


def test_excepted_addresses_show_nothing() -> None:
    (answer,), _ = run(answering(
        b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nX-Secret: 1\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc"
    ), judge=LOCAL.judge)
    assert (answer.status, answer.body, dict(answer.headers)) == (503, "", {"retry-after": "7"})

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    (answer,), _ = run(hang, judge=LOCAL.judge, settings=QUICK)
    assert answer.reason == "connection"


def test_the_address_is_judged_again_when_a_name_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver says something else each time; what it said first was fine."""
    answers = iter([[("127.0.0.1", socket.AF_INET)], [("127.0.0.2", socket.AF_INET)]])
    monkeypatch.setattr("gateway.notify.connecting.addresses_of", lambda host, family: next(answers))
    seen: list[bytes] = []
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    (first, second), connections = run(answering(closing, seen), "http://changing.example:{}/", times=2)
    assert (first.status, second.status, second.reason) == (200, 0, "address")
    assert len(seen) == connections == 1


def test_some_addresses_of_a_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gateway.notify.connecting.addresses_of",
        lambda host, family: [("10.0.0.1", socket.AF_INET), ("127.0.0.1", socket.AF_INET)],
    )
    (answer,), _ = run(answering(OK), "http://several.example:{}/")
    assert answer.status == 200


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, family: int) -> Any:
        raise socket.gaierror("no")

    monkeypatch.setattr("gateway.notify.connecting.addresses_of", unknown)
    (answer,), _ = run(answering(OK), "http://unknown.example:{}/")
    assert (answer.status, answer.reason) == (0, "dns")


def test_a_slow_name_server_takes_no_longer_than_connecting_may(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(host: str, family: int) -> Any:
        time.sleep(2.0)
        raise socket.gaierror("late")

    monkeypatch.setattr("gateway.notify.connecting.addresses_of", slow)
    (answer,), _ = run(answering(OK), "http://slow.example:{}/", settings=QUICK)
    assert (answer.status, answer.reason) == (0, "timeout") and answer.seconds < 1.5


def test_callers_share_the_answer_of_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(host: str, family: int) -> Any:
        asked.append(host)
        time.sleep(0.05)
        return [("192.0.2.1", socket.AF_INET)]

    monkeypatch.setattr("gateway.notify.connecting.addresses_of", answer)

    async def ask() -> None:
        resolver = Resolver()
        found = await asyncio.gather(*(resolver.resolve("a.example", 80) for _ in range(5)))
        assert {each[0]["host"] for each in found} == {"192.0.2.1"}
        await resolver.resolve("a.example", 80)
        await resolver.close()

    asyncio.run(ask())
    assert len(asked) == 2


def test_nothing_is_sent_once_the_subscription_has_changed() -> None:
    """It changes while the connection is made."""
    seen: list[bytes] = []

    async def send() -> None:
        async with receiver(answering(OK, seen)) as (port, connections):
            sender = Sender(PATIENT)
            line = sender.line(shown(LOCAL))
            answers = iter([True, False])
            with pytest.raises(NotNow):
                await line.send(f"http://127.0.0.1:{port}/", {}, b"", lambda: next(answers))
            await line.close()
            await sender.close()

    asyncio.run(send())
    assert seen == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for localhost."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", file, "-out", f"{file}.crt"],
        check=True, capture_output=True,
    )
    file.write_bytes(file.read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


def tls(certificate: Path, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.maximum_version = newest
    return context


def test_certificates_are_checked_by_the_name(certificate: Path) -> None:
    trusting = HttpSettings(request_timeout=2, ca_file=str(certificate))
    (answer,), _ = run(answering(OK), "https://localhost:{}/", settings=trusting, ssl=tls(certificate))
    assert answer.status == 200
    (answer,), _ = run(answering(OK), "https://127.0.0.1:{}/", settings=trusting, ssl=tls(certificate))
    assert (answer.status, answer.reason) == (0, "tls")
    (answer,), _ = run(answering(OK), "https://localhost:{}/", ssl=tls(certificate))
    assert (answer.status, answer.reason) == (0, "tls")


def test_a_proxy_gets_names_unresolved_and_no_refused_literal() -> None:
    seen: list[bytes] = []

    async def send() -> list[Answer]:
        async with receiver(answering(OK, seen)) as (port, _):
            sender = Sender(HttpSettings(request_timeout=2, proxy=f"http://127.0.0.1:{port}"))
            line = sender.line(Rules().judge)
            answers = [
                await line.send(url, {}, b"", lambda: True)
                for url in ("http://name.example/", "http://10.0.0.1/")
            ]
            await line.close()
            await sender.close()
            return answers

    by_name, literal = asyncio.run(send())
    assert (by_name.status, literal.reason) == (200, "address")
    assert [request.split(b"\r\n")[0] for request in seen] == [b"POST http://name.example/ HTTP/1.1"]
