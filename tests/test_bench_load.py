"""`marconi bench` on the wire: addresses, answers, workloads, and runs against a small server."""

import argparse
import json
import math
import os
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.bench import workloads
from gateway.bench.ceiling import Ceiling
from gateway.bench.client import EMPTY_PAUSE, ERROR_PAUSE, Client, Pause, Reply
from gateway.bench.command import bench
from gateway.bench.cpu import CPUMeter, Unknown, listeners
from gateway.bench.driver import Driver, Task, Window
from gateway.bench.messages import random_body
from gateway.bench.options import add_arguments
from gateway.bench.outcome import LOST, NO_CONNECTION, TIMEOUT, UNREADABLE
from gateway.bench.processes import LoadFailed, ProcessPool
from gateway.bench.settings import Settings
from gateway.bench.wire import Address, BadAddress, BadAnswer, parse
from gateway.bench.workloads import mix, named
from tests.queue_server import queue_server

OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def no_settling(monkeypatch):
    monkeypatch.setattr("gateway.bench.rounds.SETTLE_TIME", 0.0)


@pytest.fixture
def server():
    with queue_server() as running:
        yield running


# -- wire -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        ("http://host:8888", Address("host", 8888, False, ""), "host:8888"),
        ("http://host/", Address("host", 80, False, ""), "host"),
        ("https://host", Address("host", 443, True, ""), "host"),
        ("http://[::1]:81/messaging/", Address("::1", 81, False, "/messaging"), "[::1]:81"),
    ],
)
def test_address(url, expected, authority):
    assert Address.of(url) == expected
    assert expected.authority == authority


@pytest.mark.parametrize(
    "url", ["host:8888", "ftp://host", "http://", "http://host:port", "http://host:99999", "http://host/?a=b", "http://["]
)
def test_bad_address(url):
    with pytest.raises(BadAddress):
        Address.of(url)


def test_credentials_in_an_address_are_refused_and_not_shown():
    with pytest.raises(BadAddress) as refused:
        Address.of("http://user:secret@host/")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "status", "body", "closes"),
    [
        (OK + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", False),
        (OK + b"content-length:2\r\nConnection: Close\r\n\r\n{}", 200, b"{}", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3;x=y\r\nabc\r\n0\r\n\r\n", 200, b"{}abc", False),
    ],
)
def test_answer_is_complete_with_its_last_byte_and_not_before(data, status, body, closes):
    for length in range(len(data)):
        assert parse(data[:length]) is None
    answer = parse(data)
    assert (answer.status, answer.body, answer.closes) == (status, body, closes)


def test_answer_without_a_length_ends_with_the_connection():
    assert parse(OK + b"\r\n{}") is None
    assert parse(OK + b"\r\n{}", ended=True).body == b"{}"


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", OK + b"Content-Length: -1\r\n\r\n", b"x" * 70_000,
        OK + b"Transfer-Encoding: chunked\r\n\r\nlong\r\n",
    ],
)
def test_what_is_no_http_is_an_error(data):
    with pytest.raises(BadAnswer):
        parse(data)


# -- workloads ------------------------------------------------------------------------------------------------------


def client(**more):
    return replace(Client(0, 1, "/root", b"Host: h\r\n", ("q",), 2, b'"body"'), **more)


def replied(items=(), ok=True, status=200, body=b""):
    return Reply(ok, status, body, items)


def hrefs(*names):
    return [{"href": f"/v2/queues/q/messages/{name}?claim_id=c"} for name in names]


def test_post_request():
    request = next(workloads.post(client()))
    head, _, body = request.data.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [b"POST /root/v2/queues/q/messages HTTP/1.1", b"Host: h", b"Content-Length: 68"]
    assert json.loads(body) == {"messages": [{"ttl": 3600, "body": "body"}] * 2}
    assert request.messages == 2


def test_cycle_posts_claims_and_deletes_each():
    steps = workloads.cycle(client())
    kinds = [next(steps).kind, steps.send(replied()).kind]
    request = steps.send(replied(hrefs("1", "2")))
    assert request.data.startswith(b"DELETE /root/v2/queues/q/messages/1?claim_id=c HTTP/1.1\r\n")
    kinds += [request.kind, steps.send(replied()).kind, steps.send(replied()).kind]
    assert kinds == ["post", "claim", "delete", "delete", "post"]


def test_cycle_goes_on_without_a_pause_when_another_took_its_message():
    steps = workloads.cycle(client())
    next(steps)
    steps.send(replied())
    assert steps.send(replied(status=204)).kind == "post"


@pytest.mark.parametrize("job", [workloads.post, workloads.list_first, workloads.list_on, workloads.claim_and_delete])
def test_error_is_followed_by_a_pause(job):
    steps = job(client())
    next(steps)
    assert steps.send(replied(ok=False, status=503)) == Pause(ERROR_PAUSE)
    assert steps.send(None).kind in ("post", "list", "claim")


def test_claimer_waits_when_there_is_nothing():
    steps = workloads.claim_and_delete(client())
    next(steps)
    assert steps.send(replied(status=204)) == Pause(EMPTY_PAUSE)


def test_lister_follows_the_marker_and_keeps_it_at_the_end():
    steps = workloads.list_on(client())
    next(steps)
    page = json.dumps({"links": [{"href": "/v2/queues/q/messages?marker=5"}]}).encode()
    request = steps.send(replied([{}], body=page))
    assert b"marker=5" in request.data
    assert steps.send(replied(body=b'{"messages": [], "links": []}')) == Pause(EMPTY_PAUSE)
    assert b"marker=5" in steps.send(None).data


def test_connections_begin_with_different_queues():
    begun = [next(workloads.post(client(index=index, count=3, queues=("a", "b", "c")))).data for index in range(3)]
    assert [data.split(b"/")[4] for data in begun] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(("amount", "count"), [(0, 4), (1, 4), (7, 3), (100, 4)])
def test_shares_add_up(amount, count):
    assert sum(client(index=index, count=count, amount=amount).share for index in range(count)) == amount


def test_filling_posts_no_more_than_its_share():
    steps = workloads.fill_queues(client(amount=45))
    posted = [next(steps).messages]
    while True:
        try:
            posted.append(steps.send(replied()).messages)
        except StopIteration:
            break
    assert posted == [20, 20, 5]


@pytest.mark.parametrize("size", [2, 3, 1024, 65536])
def test_body_has_its_size_and_is_json(size):
    body = random_body(size)
    assert len(body) == size and body == random_body(size)
    json.loads(body)


def test_standard_workloads():
    found = {name: named(name) for name in workloads.STANDARD}
    assert {name: (work.connections, work.batch) for name, work in found.items()} == {
        "post-1": (8, 1), "post-20": (8, 20), "list-20": (8, 20), "cycle-1": (4, 1), "cycle-20": (4, 20),
    }
    assert found["list-20"].backlog >= 20


def test_number_of_connections_may_follow():
    assert (named("cycle-20x16").connections, named("cycle-20x16").batch, named("cycle-20x16").name) == (
        16, 20, "cycle-20x16",
    )


@pytest.mark.parametrize(
    "name", ["post", "post-0", "post-01", "post--1", "fly-1", "post-1-1", "", "post-1x", "post-1x0", "post-1x2x3"]
)
def test_unknown_workload(name):
    with pytest.raises(ValueError, match="post-N"):
        named(name)


def test_mix():
    work = mix(3, 2, 0, 5)
    assert (work.name, work.connections, work.batch, work.counted) == ("mix-3p-2c", 5, 5, "delete")


@pytest.mark.parametrize(
    "wrong", [{"duration": 0}, {"duration": math.nan}, {"rounds": 0}, {"body_size": 1}, {"queues": 0}, {"backlog": -1}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="must be at least"):
        Settings(**wrong)


# -- load -----------------------------------------------------------------------------------------------------------


def drive(server, job, seconds=0.3, count=1, timeout=5.0, **more):
    """Run a job here, without processes."""
    address = Address.of(server if isinstance(server, str) else server.url)
    now = time.monotonic()
    clients = tuple(
        (job, client(prefix="", index=index, count=count, head=b"Host: h\r\nX-Test: yes\r\n", **more))
        for index in range(count)
    )
    return Driver(Task(address, clients, Window(now, now, now + seconds), timeout)).run()


def test_what_is_counted_is_what_the_server_did(server):
    outcome = drive(server, workloads.post, count=3, queues=("a", "b"))
    posted = outcome.operations["post"]
    assert posted.messages > 0 and posted.errors == {}
    assert posted.all_messages == sum(map(len, server.queues.values())) == 2 * server.seen["POST messages"]
    assert posted.all_statuses == {"201": server.seen["POST messages"]}
    assert len(posted.seconds) == posted.statuses["201"]
    assert server.headers[0]["X-Test"] == "yes"
    assert server.bodies[0] == "body"


def test_cycles_leave_only_what_was_posted_and_not_deleted(server):
    operations = drive(server, workloads.cycle, count=2).operations
    left = sum(map(len, server.queues.values()))
    assert operations["delete"].all_messages > 0
    assert left == operations["post"].all_messages - operations["delete"].all_messages


def test_what_ends_before_the_measurement_is_not_in_it(server):
    now = time.monotonic()
    window = Window(now, now + 30, now + 60)
    job = ((workloads.fill_queues, client(prefix="", amount=30)),)
    filled = Driver(Task(Address.of(server.url), job, window, 5.0)).run().operations["fill"]
    assert (filled.messages, len(filled.seconds), filled.all_messages) == (0, 0, 30)


def test_errors_are_counted_by_status(server):
    statuses = iter([503, 500, 503])
    server.fault = lambda *_: next(statuses, None)
    outcome = drive(server, workloads.post, 0.6)
    assert outcome.operations["post"].errors == {"503": 2, "500": 1}
    assert "503" in outcome.first_error and "a fault" in outcome.first_error
    assert outcome.operations["post"].messages > 0
    assert len(outcome.operations["post"].seconds) == outcome.operations["post"].statuses["201"]


def test_lost_connection_is_an_error_and_the_client_goes_on(server):
    faults = iter([None, "close"])
    server.fault = lambda *_: next(faults, None)
    outcome = drive(server, workloads.post, 0.5)
    assert outcome.operations["post"].errors == {LOST: 1}
    assert outcome.operations["post"].statuses["201"] > 1


def test_connection_that_the_server_ends_properly_is_no_error(server):
    faults = iter(["last", None, "last"])
    server.fault = lambda *_: next(faults, None)
    outcome = drive(server, workloads.post)
    assert outcome.operations["post"].errors == {}
    assert outcome.reconnects == 2


def test_silence_is_a_timeout(server):
    faults = iter(["silence"])
    server.fault = lambda *_: next(faults, None)
    outcome = drive(server, workloads.post, 1.5, timeout=0.3)
    server.ended.set()
    assert outcome.operations["post"].errors == {TIMEOUT: 1}


def test_answer_that_is_not_what_it_should_be_is_an_error(server):
    server.fault = lambda method, _: 200 if method == "GET" else None
    outcome = drive(server, workloads.list_first)
    assert set(outcome.operations["list"].errors) == {UNREADABLE}
    assert len(outcome.operations["list"].seconds) == 0


def test_nobody_there_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        outcome = drive(f"http://127.0.0.1:{taken.getsockname()[1]}", workloads.post)
    assert set(outcome.operations["post"].errors) == {NO_CONNECTION}
    assert outcome.operations["post"].statuses == {}


@pytest.fixture
def certificate(tmp_path):
    """A certificate of localhost with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "localhost.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    return file


def test_tls(server, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    url = f"https://localhost:{server.server_port}"
    distrusted = drive(url, workloads.post, 0.3).operations["post"]
    assert distrusted.messages == 0 and set(distrusted.all_errors) == {NO_CONNECTION}
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusted = drive(url, workloads.cycle, 0.5, count=3, batch=20, body=random_body(50_000)).operations
    assert trusted["delete"].messages > 0
    assert all(operation.all_errors == {} for operation in trusted.values())


def test_host_name_leads_to_where_somebody_listens(server):
    # localhost is ::1 too, where nobody does
    outcome = drive(f"http://localhost:{server.server_port}", workloads.post)
    assert outcome.operations["post"].messages > 0 and outcome.operations["post"].errors == {}


def test_connections_that_hang_do_so_side_by_side():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # room for one, which is the look whether somebody is there
        begin = time.monotonic()
        outcome = drive(f"http://127.0.0.1:{full.getsockname()[1]}", workloads.post, 0.3, count=5, timeout=1.0)
    assert outcome.operations["post"].all_errors == {TIMEOUT: 5}
    assert time.monotonic() - begin < 4


def test_process_that_dies_is_noticed(server):
    now = time.monotonic()
    with ProcessPool(1) as pool:
        task = Task(Address.of(server.url), ((workloads.post, client(prefix="")),), Window(now, now, now + 30), 5.0)
        pool.begin([task])
        assert not pool.poll(0.1)
        ((process, _),) = pool._processes
        process.kill()
        with pytest.raises(LoadFailed, match="ended with -9"):
            pool.finish()


# -- CPU ------------------------------------------------------------------------------------------------------------


def test_meter_counts_processes_below_too():
    code = (
        "import subprocess, sys, time\n"
        "burn = 'import time\\nwhile time.process_time() < 0.4: pass\\nprint(1, flush=True)\\ntime.sleep(60)'\n"
        "child = subprocess.Popen([sys.executable, '-c', burn])\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        try:
            meter = CPUMeter([parent.pid])
            assert parent.stdout.readline() == b"1\n"
            assert 0.35 < meter.seconds() < 10
        finally:
            for process in [*psutil.Process(parent.pid).children(), parent]:
                process.kill()


def test_meter_of_nobody():
    with pytest.raises(Unknown):
        CPUMeter([2**22 + 1])


def test_listener_is_found_by_its_port(server):
    assert listeners(Address.of(server.url)) == [os.getpid()]


def test_servers_elsewhere_have_no_process_here():
    with pytest.raises(Unknown, match="not this machine"):
        listeners(Address.of("http://192.0.2.1:8888"))


def test_bare_server_has_pages_of_the_right_size():
    with Ceiling(body_size=100, limit=20) as bare:
        listed = drive(bare.url, workloads.list_first).operations["list"]
        posted = drive(bare.url, workloads.post).operations["post"]
        pid = bare.pid
    assert listed.errors == posted.errors == {}
    assert listed.messages == 20 * len(listed.seconds) > 0
    assert posted.messages > 0
    assert not psutil.pid_exists(pid)


# -- command --------------------------------------------------------------------------------------------------------


def run(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    quick = ("--duration", "0.3", "--warm-up", "0.1", "--rounds", "2", "--processes", "1")
    return bench(parser.parse_args([*quick, *arguments]))


def test_two_servers_side_by_side(server, tmp_path, capsys):
    file, chart = tmp_path / "out.json", tmp_path / "out.svg"
    with queue_server() as other:
        status = run(
            server.url, "--name", "a", "--against", other.url, "--against-name", "b", "-w", "cycle-2", "-w", "list-5",
            "--header", "X-A: 1", "--against-header", "X-B: 2", "--json", str(file), "--plot", str(chart),
        )
        assert other.queues == {} and other.seen["DELETE queue"] == 2
        assert other.headers[-1]["X-B"] == "2" and "X-A" not in other.headers[-1]
    assert status == 0
    assert server.headers[-1]["X-A"] == "1" and "X-B" not in server.headers[-1]
    assert server.queues == {}
    out = capsys.readouterr().out
    assert "| cycle-2 | a / b" in out and "| list-5 " in out
    found = json.loads(file.read_text())
    assert [work["name"] for work in found["workloads"]] == ["cycle-2", "list-5"]
    for work in found["workloads"]:
        assert len(work["servers"]["a"]["rounds"]) == len(work["servers"]["b"]["rounds"]) == 2
        assert work["ratios"][0]["rate"]["low"] <= work["ratios"][0]["rate"]["median"]
        assert work["servers"]["a"]["errors"] == {}
    assert found["workloads"][1]["servers"]["a"]["prepared_messages"] == workloads.LISTED
    assert chart.read_text().startswith("<svg")


def test_second_round_has_the_opposite_order(server):
    turns = []
    with queue_server() as other:
        for name, each in (("a", server), ("b", other)):
            def note(method, path, name=name):
                if path.endswith("/claims") and turns[-1:] != [name]:
                    turns.append(name)

            each.fault = note
        assert run(server.url, "--against", other.url, "-w", "cycle-1", "--rounds", "3") == 0
    assert turns == ["a", "b", "a", "b"]  # a b, b a, a b


def test_mix_and_preparation(server, tmp_path):
    file = tmp_path / "out.json"
    assert run(
        server.url, "--producers", "1", "--claimers", "1", "--listers", "1", "--queues", "2", "--idle-queues", "3",
        "--backlog", "10", "--claimed", "4", "--keep", "--json", str(file), "--rounds", "1",
    ) == 0
    (work,) = json.loads(file.read_text())["workloads"]
    (measured,) = work["servers"].values()
    assert measured["prepared_messages"] == 2 * (10 + 4) + 3
    operations = measured["rounds"][0]["operations"]
    moved = {kind: operations[kind]["with_warm_up"]["messages"] for kind in ("post", "delete")}
    assert sum(map(len, server.queues.values())) == measured["prepared_messages"] + moved["post"] - moved["delete"]
    assert len(server.queues) == 5


def test_server_that_refuses_ends_with_1_and_says_why(server, capsys):
    server.fault = lambda method, _: 403 if method == "PUT" else None
    assert run(server.url, "-w", "post-1") == 1
    assert "can't be prepared: make: 403" in capsys.readouterr().err


def test_errors_while_measuring_are_reported(server, capsys):
    calls = iter(range(1_000_000))
    server.fault = lambda method, path: 503 if path.endswith("messages") and next(calls) == 3 else None
    assert run(server.url, "-w", "post-1", "--connections", "1") == 0
    assert "503: 1; the first: post: 503" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("http://127.0.0.1:1", "-w", "fly-1"), ("http://127.0.0.1:1", "--rounds", "0"), ("nowhere",),
        ("http://127.0.0.1:1", "--connections", "-1"), ("http://127.0.0.1:1", "--header", "secret"),
        ("http://127.0.0.1:1", "--against", "http://127.0.0.1:1"), ("http://127.0.0.1:1", "--pid", "4194305"),
        ("http://127.0.0.1:1", "--json", "/proc/none/file"), ("http://127.0.0.1:1", "--groups", "2"),
        ("http://127.0.0.1:1", "--dedup-ids"), ("http://127.0.0.1:1", "--fifo", "--claimed", "1"),
        ("http://127.0.0.1:1", "--fifo", "--groups", "0"),
    ],
)
def test_nonsense_is_one_line(arguments, capsys):
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("marconi: ") and err.count("\n") == 1
    assert "secret" not in err


def test_password_comes_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("MARCONI_BENCH_PASSWORD", "s3cret")
    assert run(server.url, "-w", "post-1", "--rounds", "1", "--user", "alice") == 0
    assert server.headers[0]["Authorization"] == "Basic YWxpY2U6czNjcmV0"


def test_headers_can_come_from_a_file(server, tmp_path):
    lines = tmp_path / "headers"
    lines.write_text("X-Auth-Token: abc\nX-Project-ID: mine\n")
    assert run(server.url, "-w", "post-1", "--rounds", "1", "--header", f"@{lines}") == 0
    assert server.headers[0]["X-Auth-Token"] == "abc" and server.headers[0]["X-Project-ID"] == "mine"
