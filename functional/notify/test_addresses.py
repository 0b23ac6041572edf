"""Where deliveries go, whatever URLs, name servers and answers say; and what is learnt of the rest.

The receiver listens on all addresses of the machine, and knows by which one it was reached. Only 127.0.0.2 is allowed,
and 127.0.0.3, whose ports differ.
"""

import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from typing import Any

import pytest

from functional.deployments import embedded
from functional.http import Api
from functional.installed import require
from functional.notify.naming import NamedGateway
from functional.notify.subscribers import Subscriber
from functional.services.gateway import merge
from functional.services.ports import free_port
from functional.wait import wait_until
from gateway.core.subscriptions.addresses import METADATA_SERVICES, REFUSED_IPV4, REFUSED_IPV6

#: First and last address of each network in the gateway's table, by name of the network.
TABLE = {
    text: [str(ip_network(text)[0]), str(ip_network(text)[-1])] for text in (*REFUSED_IPV4, *REFUSED_IPV6)
} | {f"metadata {address}": [str(address)] for address in sorted(METADATA_SERVICES, key=str)}

#: What is not in the table, and no address of the Internet either: forms of IPv6, and what holds IPv4.
FORMS = [
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1", "2002:7f00:1::1", "2001:0:7f00:1::1", "fc00::1", "fe80::1", "fec0::1", "ff02::1", "100::1",
    "5f00::1", "4000::1",
]

#: Other spellings of 127.0.0.1, and of addresses that lead there.
SPELLINGS = [
    "127.0.0.1", "localhost", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001",
    "0", "0.0.0.0", "①②⑦.0.0.1", "127。0。0。1", "127.0.0.1.", "%31%32%37.0.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]", "[::1%25lo]", "user@127.0.0.1",
]

#: Seconds that connecting and an attempt may take here.
CONNECT, REQUEST = 1, 2

#: Names and their answers, one after the other.
NAMES = {
    **{f"network-{n}.test": [addresses] for n, addresses in enumerate(TABLE.values())},
    **{f"form-{n}.test": [[address]] for n, address in enumerate(FORMS)},
    "inside.test": [["127.0.0.1"]],
    "rebinds.test": [["127.0.0.2"], ["127.0.0.1"]],
    "both.test": [["127.0.0.1", "127.0.0.2"]],
    "outside.test": [["127.0.0.2"]],
}


@dataclass
class Everywhere:
    """A receiver on all addresses; `reached`: by which of them, and which path was asked for."""

    reached: list[tuple[str, str]] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    answer: tuple[int, dict[str, str]] = (204, {})

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                receiver.connections.append(self.local)
                super().setup()

            @property
            def local(self) -> str:
                return str(self.request.getsockname()[0]).removeprefix("::ffff:")

            def do_POST(self) -> None:
                receiver.reached.append((self.local, self.path))
                self.rfile.read(int(self.headers["Content-Length"]))
                status, headers = receiver.answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            do_GET = do_CONNECT = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

            def server_bind(self) -> None:
                if self.address_family == socket.AF_INET6:
                    self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                super().server_bind()

        self._server = Server(("", free_port()), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def forget(self) -> None:
        self.reached.clear()
        self.connections.clear()
        self.answer = 204, {}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def everywhere() -> Iterator[Everywhere]:
    with closing(Everywhere()) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def proxy() -> Iterator[Everywhere]:
    """What the gateway's environment names as the proxy."""
    with closing(Everywhere()) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def gateway(
    everywhere: Everywhere, proxy: Everywhere, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NamedGateway]:
    notification = {
        "allowed_networks": [f"127.0.0.2:{everywhere.port}", "127.0.0.3/32"], "connect_timeout": CONNECT,
        "request_timeout": REQUEST, "retry_schedule": [60],
    }
    options = merge(embedded(tmp_path_factory.mktemp("addresses")), {"notification": notification})
    url = f"http://127.0.0.1:{proxy.port}"
    names = [f"{scheme}_proxy" for scheme in ("http", "https", "all")]
    environment = dict.fromkeys([*names, *map(str.upper, names)], url)
    with require(lambda: NamedGateway(options, NAMES, environment)) as gateway:
        yield gateway


@pytest.fixture
def subscriber(gateway: NamedGateway, everywhere: Everywhere) -> Iterator[Subscriber]:
    everywhere.forget()
    api = Api(gateway.url)
    yield Subscriber(api)
    api.close()


def outcome(subscriber: Subscriber, subscription: str) -> dict[str, Any]:
    """What its owner is told when he tests it."""
    answer = subscriber.api.post(f"/v2/queues/{subscriber.queue}/subscriptions/{subscription}/test")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def failure(subscriber: Subscriber, subscription: str) -> dict[str, Any]:
    """What its owner sees of the first delivery that has failed."""
    return dict(wait_until(lambda: subscriber.of(subscription, "status")["last_failure"], 15, "a failure"))


@pytest.mark.parametrize("number", range(len(TABLE)), ids=TABLE)
def test_no_name_leads_to_a_network_of_the_table(subscriber: Subscriber, everywhere: Everywhere, number: int):
    subscription = subscriber.subscribe(f"http://network-{number}.test:{everywhere.port}/")
    assert outcome(subscriber, subscription)["reason"] == "address"
    assert everywhere.connections == []


@pytest.mark.parametrize("number", range(len(FORMS)), ids=FORMS)
def test_no_name_leads_inside_by_a_form_of_ipv6(subscriber: Subscriber, everywhere: Everywhere, number: int):
    subscription = subscriber.subscribe(f"http://form-{number}.test:{everywhere.port}/")
    assert outcome(subscriber, subscription)["reason"] == "address"
    assert everywhere.connections == []


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_leads_inside(subscriber: Subscriber, everywhere: Everywhere, host: str):
    body = {"subscriber": f"http://{host}:{everywhere.port}/"}
    answer = subscriber.api.post(f"/v2/queues/{subscriber.queue}/subscriptions", json=body)
    assert answer.status_code in (201, 400)
    if answer.status_code == 201:
        assert outcome(subscriber, answer.json()["subscription_id"])["reason"] in ("address", "dns")
    assert everywhere.connections == []


def test_deliveries_go_to_none_of_them_either(subscriber: Subscriber, everywhere: Everywhere):
    names = [name for name in NAMES if name.startswith(("network", "form", "inside"))]
    ids = [subscriber.subscribe(f"http://{name}:{everywhere.port}/") for name in names]
    subscriber.post("x")
    assert {failure(subscriber, id_)["reason"] for id_ in ids} == {"address"}
    assert everywhere.connections == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_leads_inside(subscriber: Subscriber, everywhere: Everywhere, status: int):
    everywhere.answer = status, {"Location": f"http://127.0.0.1:{everywhere.port}/inside"}
    subscription = subscriber.subscribe(f"http://outside.test:{everywhere.port}/hook")
    assert outcome(subscriber, subscription)["reason"] == "redirect"
    assert everywhere.reached == [("127.0.0.2", "/hook")]


def test_a_name_that_leads_elsewhere_next_time_is_judged_again(subscriber: Subscriber, everywhere: Everywhere):
    subscription = subscriber.subscribe(f"http://rebinds.test:{everywhere.port}/")
    subscriber.post("first")
    wait_until(lambda: everywhere.reached, 15)
    subscriber.post("second")
    assert failure(subscriber, subscription)["reason"] == "address"
    assert set(everywhere.connections) == {"127.0.0.2"}


def test_of_several_addresses_only_those_that_are_allowed_are_tried(subscriber: Subscriber, everywhere: Everywhere):
    subscription = subscriber.subscribe(f"http://both.test:{everywhere.port}/")
    assert outcome(subscriber, subscription)["status"] == 204
    assert everywhere.connections == ["127.0.0.2"]


def test_proxies_of_the_environment_are_not_used(subscriber: Subscriber, everywhere: Everywhere, proxy: Everywhere):
    subscription = subscriber.subscribe(f"http://outside.test:{everywhere.port}/")
    subscriber.post("x")
    wait_until(lambda: everywhere.reached, 15)
    assert outcome(subscriber, subscription)["status"] == 204
    assert proxy.connections == []


class Ports:
    """One that is open, one that speaks no HTTP, one that is closed, and one that gives no answer, as if filtered."""

    def __init__(self, stack: ExitStack, address: str, http: int) -> None:
        speaking, full = (stack.enter_context(closing(socket.socket())) for _ in range(2))
        for listener in speaking, full:
            listener.bind((address, 0))
        speaking.listen()
        threading.Thread(target=self._speak, args=(speaking,), daemon=True).start()
        full.listen(0)
        for _ in range(4):  # nobody accepts them, so Linux answers no more
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        self.all = {
            "open": http, "other": speaking.getsockname()[1], "closed": free_port(), "filtered": full.getsockname()[1],
        }

    @staticmethod
    def _speak(listener: socket.socket) -> None:
        while True:
            try:
                with listener.accept()[0] as connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    connection.recv(4096)
            except OSError:
                return


def told(subscriber: Subscriber, ids: dict[str, str], post: bool) -> list[tuple[Any, ...]]:
    """What owners are told of each, but for the time that it took."""
    if not post:
        answers = [outcome(subscriber, id_) for id_ in ids.values()]
        return [(answer["status"], answer["reason"], answer.get("response")) for answer in answers]
    subscriber.post(f"x-{uuid.uuid4()}")
    failures = [failure(subscriber, id_) for id_ in ids.values()]
    listed = [subscriber.of(id_, "deliveries")["deliveries"][0] for id_ in ids.values()]
    assert [entry["reason"] for entry in listed] == [found["reason"] for found in failures]
    return [(found["status"], found["reason"], found.get("response")) for found in [*failures, *listed]]


@pytest.mark.parametrize("post", [False, True], ids=["test", "delivery"])
def test_nothing_is_learnt_of_ports_inside(subscriber: Subscriber, everywhere: Everywhere, post: bool):
    with ExitStack() as stack:
        ports = Ports(stack, "127.0.0.1", everywhere.port).all
        ids = {name: subscriber.subscribe(f"http://inside.test:{port}/") for name, port in ports.items()}
        began = time.monotonic()
        assert set(told(subscriber, ids, post)) == {(None, "address", "")}
        if not post:  # nor by the time that it takes: none of them was tried
            assert time.monotonic() - began < CONNECT
    assert everywhere.connections == []


@pytest.mark.parametrize("post", [False, True], ids=["test", "delivery"])
def test_words_are_the_same_for_all_ports_of_an_exception(subscriber: Subscriber, post: bool):
    """Which answer no HTTP; how long an attempt takes differs."""
    with ExitStack() as stack:
        ports = Ports(stack, "127.0.0.3", 0).all
        del ports["open"]
        ids = {name: subscriber.subscribe(f"http://127.0.0.3:{port}/") for name, port in ports.items()}
        assert set(told(subscriber, ids, post)) == {(None, "connection", "")}
