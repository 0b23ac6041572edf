"""At debug level with hostile requests and messages: each line of the log and of an answer's head is the gateway's."""

import io
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest

from functional import raw
from functional.api.helpers import claim, claims_path, create, listed, messages_path, post, queue_path
from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, merge
from functional.wait import wait_until
from gateway.config.reader import load
from gateway.core.queues.names import broker_name
from gateway.observe.logs import Record, configure

#: What a line of the log looks like; a traceback's lines have a prefix of their own.
LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ (DEBUG|INFO|WARNING|ERROR) [\w.]+ "
    r"(\[(-|req-[0-9a-f-]{36})\] .*|.*)"
)

#: A line that nobody but the gateway should be able to write.
FORGED = "2030-01-01 00:00:00.000 1 ERROR gateway.app [-] forged"

#: What ends a line, moves a cursor, or turns the direction of writing, here and there.
BREAKS = [
    "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2J\x1b[1A", "\0", "\u202e", "\x9b2J",
]

HOSTILE = [f"a{separator}{FORGED}{separator}b" for separator in BREAKS]


def quoted(text: str) -> str:
    """Percent-encoded, all of it."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def check_log(log: str) -> None:
    """Every line is the gateway's own, and can be shown."""
    lines = log.split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert LINE.fullmatch(line), repr(line)
        assert line.isprintable(), repr(line)
        assert not line.startswith("2030")


def check_answer(response: raw.RawResponse) -> None:
    """An answer with the headers that the gateway has, and no more."""
    known = {
        "Content-Type", "Content-Length", "Date", "X-Openstack-Request-Id", "Location", "Allow", "Connection",
        "WWW-Authenticate", "Retry-After", "Server", "Via",
        "Cache-Control", "X-Content-Type-Options",
    }
    assert {name.title() for name in response.headers} <= {name.title() for name in known}, response.headers
    for value in response.headers.values():
        assert value.isascii() and value.isprintable()
    if response.body:
        json.loads(response.body)


def request(method: str, target: str, body: bytes = b"", **headers: bytes) -> bytes:
    usual = {"Host": b"h", "Client-ID": b"0" * 32, "X-Project-ID": b"p", "Connection": b"close"}
    fields = usual | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, *(name.encode() + b": " + value for name, value in fields.items()), b"", body])


def hostile_requests(text: str) -> Iterator[bytes]:
    """The text everywhere in a request where a client can put it."""
    path = quoted(text)
    for target in (
        f"/{path}", f"/v2/queues/{path}", f"/v2/queues/q/messages/{path}", f"/v2/queues/q/claims/{path}",
        f"/v2/queues?marker={path}&name={path}", f"/v2/queues/q/messages?marker={path}&limit={path}",
        f"/v2/queues/q/messages?ids={path}", f"/v2/queues?{path}={path}", f"/v2/queues/q/messages?echo=true&{path}=1",
    ):
        yield request("GET", target)
        yield request("DELETE", target)
    yield request("PUT", f"/v2/queues/{path}", b"{}")
    document = json.dumps({text: text}).encode()
    yield request("PUT", "/v2/queues/q", document)
    yield request("PUT", "/v2/queues/q", json.dumps({"_dead_letter_queue": text, "_flavor": text}).encode())
    yield request("POST", "/v2/queues/q/share", document)
    yield request("POST", "/v2/queues/q/messages", json.dumps({"messages": [{"body": text}]}).encode())
    yield request("POST", "/v2/queues/q/claims", document)
    yield request(
        "PATCH", "/v2/queues/q", json.dumps([{"op": text, "path": text}]).encode(),
        Content_Type=b"application/openstack-messaging-v2.0-json-patch",
    )
    for data in {text.encode(), text.encode("latin-1", "replace")}:
        for name in ("Client_ID", "X_Project_ID", "Accept", "X_Roles", "Authorization", "URL_Signature", "User_Agent"):
            yield request("GET", "/v2/queues", **{name: data})
        yield data + request("GET", "/")
        yield request("GET", "/").replace(b"GET", data)


@pytest.mark.parametrize("auth", ["noauth", "basic"])
def test_requests_write_no_lines(start_gateway: Callable[..., Gateway], tmp_path: Any, auth: str) -> None:
    (tmp_path / "users").write_text("")
    gateway = start_gateway(
        DEFAULT={"debug": True, "auth_strategy": auth, "client_id_uuid_safe": False},
        basic={"htpasswd_file": tmp_path / "users"},
    )
    for text in HOSTILE:
        for data in hostile_requests(text):
            check_answer(raw.exchange(gateway.url, data, half_close=True))
    assert "forged" in gateway.log or quoted("forged") in gateway.log  # it did arrive
    check_log(gateway.log)


def test_tracebacks_keep_their_lines_and_write_no_others() -> None:
    conf = load(config_files=[])
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        configure(conf)
        assert logging.getLogRecordFactory() is Record
        for handler in root.handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(stream)
        for text in HOSTILE:
            try:
                raise RuntimeError(text)
            except RuntimeError as error:
                logging.getLogger("gateway.app").error("%s", text, exc_info=error)
            logging.getLogger("gateway.app").exception("x %s", text)
    finally:
        root.handlers, root.level = handlers, level
        logging.setLogRecordFactory(factory)
    assert stream.getvalue().count("Traceback") == len(HOSTILE)
    check_log(stream.getvalue())


@pytest.fixture(scope="module")
def bridging(rabbitmq: Any, mongodb: Any) -> Iterator[Gateway]:
    """A gateway with a broker, at debug level, that may bridge everything."""
    options = merge(
        COMMON, through(rabbitmq), beside(mongodb, "hostile"), {
            "DEFAULT": {"debug": True}, "bridging": {"allow": ["* * * *"], "max_body": 2000},
        },
    )
    with require(lambda: Gateway(options)) as service:
        yield service


class Surrogate(bytes):
    """Bytes that pika takes for text."""

    def encode(self, *_: Any) -> bytes:
        return bytes(self)


#: What a native producer may set, and no text at all among it.
PROPERTIES: list[dict[str, Any]] = [
    *({"message_id": text, "type": text, "content_type": text, "headers": {text: text}} for text in HOSTILE),
    {"message_id": Surrogate(b"\xff\xfe")}, {"content_type": Surrogate(b"\xed\xa0\x80")},
    {"headers": {"a": {"b": [1, None, b"\xff", "\u2028"]}}}, {"headers": {"x-delivery-count": "many"}},
    {"headers": {"marconi-client": "\n".join(HOSTILE)}},
    {"content_encoding": "gzip"}, {"expiration": "4294967295"}, {"timestamp": 2**63},
    {"message_id": "ffffffff-ffff-7fff-bfff-ffffffffffff", "headers": {"marconi-client": "c"}},
]


@pytest.mark.parametrize("kind", ["own", "bridged", "looked at"])
def test_native_messages_write_no_lines_and_stop_no_queue(
    bridging: Gateway, pika_connection: Callable[[], pika.BlockingConnection], kind: str
) -> None:
    api, name = Api(bridging.url), f"hostile-{uuid.uuid4().hex[:8]}"
    channel = pika_connection().channel()
    channel.confirm_delivery()
    queue = broker_name(api.project, "q") if kind == "own" else name
    if kind == "own":
        create(api, "q")
    else:
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "classic"})
        create(api, "q", _bridge={"source": {"queue": queue}, "properties": True})
    channel.exchange_declare(name, "fanout")
    channel.queue_bind(queue, name)
    for number, properties in enumerate(PROPERTIES):
        for key in ("k", Surrogate(b"\xffk"), "\n\x1b[2J"):
            channel.basic_publish(
                name, key, json.dumps(number).encode(), pika.BasicProperties(delivery_mode=2, **properties)
            )
    channel.basic_publish("", queue, b"x" * 3000, pika.BasicProperties(content_encoding="\n\x1b[2J"))
    channel.basic_publish("", queue, b'"the last one"')

    if kind == "looked at":
        assert api.get(f"{queue_path('q')}/stats").status_code == 200
        listed(api, "q")
    seen: list[Any] = []

    def last() -> bool:
        seen.extend(message["body"] for message in claim(api, "q")[1])
        return "the last one" in seen

    wait_until(last, 20, "the last message after the hostile ones")
    poison = {n for n, p in enumerate(PROPERTIES) if "content_encoding" in p or Surrogate in map(type, p.values())}
    assert set(seen) == set(range(len(PROPERTIES))) - poison | {"the last one"}
    assert api.get(f"{queue_path('q')}/stats").status_code == 200
    assert listed(api, "q", include_claimed="true")
    channel.exchange_delete(name)
    channel.queue_delete(queue)
    assert "marconi-poison." in bridging.log
    check_log(bridging.log)
    api.close()


def test_metadata_and_dead_letters_write_no_lines(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(DEFAULT={"debug": True})
    for text in HOSTILE:
        api = Api(gateway.url, "p")
        create(api, f"q{uuid.uuid4().hex}", **{text: text})
        post(api, "q", text)
        claim_id, _ = claim(api, "q")
        api.delete(f"{claims_path('q')}/{claim_id}{quoted(text)}")
        api.delete(f"{messages_path('q')}?ids={quoted(text)}")
        api.close()
    check_log(gateway.log)
