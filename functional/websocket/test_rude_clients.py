"""WebSocket clients that flood, never read, vanish or break the protocol; others are served meanwhile."""

import os
import socket
import struct
import threading
import time

import psutil
import pytest

from functional.http import Api
from functional.wait import wait_until
from functional.websocket.client import WebSocketClient
from tests.websocket_peer import Peer

#: Seconds of [wsgi] client_timeout and [websocket] ping_interval.
CLIENT_TIMEOUT = 3.0
PING_INTERVAL = 2.0

#: Seconds for what a busy machine takes.
PATIENCE = 60.0

#: Seconds for an answer to a polite client on a machine that is busy with the rude ones.
POLITE = 10.0

#: Bytes by which a gateway may grow: see gateway/stream/websocket/hub.py, and what Python keeps.
GROWTH = 200 * 1024 * 1024

HANDSHAKE = (
    b"GET /v2/websocket HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def gateway(start_gateway):
    return start_gateway(
        wsgi={"client_timeout": CLIENT_TIMEOUT, "threads": 4},
        websocket={"ping_interval": PING_INTERVAL, "max_connections": 500},
    )


@pytest.fixture
def open_raw(gateway):
    """Open connections whose frames the test writes itself."""
    opened = []

    def make():
        peer = Peer(socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE))
        opened.append(peer)
        peer.raw(HANDSHAKE)
        assert peer.accepted().startswith(b"HTTP/1.1 101 ")
        return peer

    yield make
    for peer in opened:
        peer.sock.close()


@pytest.fixture
def polite(gateway, queue):
    """Asks all the time; the longest time that an answer took is looked at in the end."""
    stop, slowest = threading.Event(), [0.0]
    client = WebSocketClient(gateway.url)

    def run():
        while not stop.wait(0.05):
            began = time.monotonic()
            assert client.ask("message_post", queue_name=queue, messages=[{"body": 1, "ttl": 60}])[0] == 201
            slowest[0] = max(slowest[0], time.monotonic() - began)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    client.close()
    assert 0 < slowest[0] < POLITE


def memory(gateway):
    return psutil.Process(gateway.pid).memory_info().rss


def flood(peer, data, seconds=5.0):
    """Send as much as is taken."""
    peer.sock.settimeout(1.0)
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            peer.raw(data)
    except OSError:  # not read on, or closed
        pass


def masked(first, data, length=None):
    """A frame with any first byte, masked with zeros."""
    length = len(data) if length is None else length
    head = struct.pack("!BB", first, 0x80 | length) if length < 126 else struct.pack("!BBH", first, 0xFE, length)
    return head + bytes(4) + data


@pytest.mark.usefixtures("polite")
def test_floods_of_all_kinds(gateway, open_raw):
    before = memory(gateway)
    kinds = [
        masked(0x89, bytes(125)) * 200, masked(0x8A, b"") * 500, masked(0x00, b"") * 500,
        masked(0x81, b"{}") * 500, masked(0x82, b"\xc1") * 500, masked(0x81, b"[" * 60000), os.urandom(65536),
        masked(0x81, b'{"action": "queue_list", "headers": {"Client-ID": "x", "X-Project-ID": "p"}}') * 50,
    ]
    threads = []
    for data in kinds:
        for _ in range(2):
            peer = open_raw()
            if data.startswith(b"\x00"):
                peer.raw(masked(0x01, b"begins"))
            threads.append(threading.Thread(target=flood, args=(peer, data)))
            threads[-1].start()
    for thread in threads:
        thread.join(PATIENCE)
    assert memory(gateway) - before < GROWTH
    assert "Traceback" not in gateway.log


@pytest.mark.usefixtures("polite")
def test_clients_that_read_nothing_are_closed_and_their_subscriptions_end(gateway, queue):
    before = memory(gateway)
    api = Api(gateway.url)
    clients = [WebSocketClient(gateway.url, api.project, max_queue=1) for _ in range(10)]
    for client in clients:
        client.subscribe(queue)
    path = f"/v2/queues/{queue}"
    for _ in range(100):
        answer = api.post(f"{path}/messages", json={"messages": [{"body": "x" * 200_000, "ttl": 600}]})
        assert answer.status_code == 201
    wait_until(lambda: api.get(f"{path}/subscriptions").json()["subscriptions"] == [], PATIENCE, "their end")
    assert memory(gateway) - before < GROWTH
    for client in clients:
        client.socket.socket.close()


def test_silent_clients_are_cut(gateway, open_raw):
    peers = [open_raw() for _ in range(50)]
    for peer in peers:
        while True:  # pings, and then the end
            try:
                if not peer.sock.recv(1000):
                    break
            except ConnectionResetError:
                break


@pytest.mark.usefixtures("polite")
def test_thousands_come_and_go(gateway, open_raw):
    for number in range(2000):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as sock:
            sock.sendall(HANDSHAKE if number % 2 else HANDSHAKE[:-2])
            if number % 4 == 1:
                sock.recv(100)
            if number % 8 == 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peers = [open_raw() for _ in range(100)]
    assert len(peers) == 100
    wait_until(lambda: psutil.Process(gateway.pid).num_fds() < 400, PATIENCE, "connections that are gone")


def test_half_a_message_does_not_last(gateway, open_raw):
    peer = open_raw()
    peer.raw(b"\x01\x85" + bytes(4) + b"begin")
    assert peer.close_code() == 1008
