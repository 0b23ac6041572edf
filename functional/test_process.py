"""The processes of a gateway: what becomes of them when something beside their main job fails or ends."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import requests

from functional.api.helpers import post
from functional.deployments import embedded
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, find_command, merge, render
from functional.services.ports import free_port
from functional.wait import wait_until

#: Seconds in which processes end, or do what they were told.
PATIENCE = 20

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture(scope="module", params=[1, 2])
def steady_gateway(request, tmp_path_factory):
    """A gateway with so many workers that nothing changes: tests share it, and give its configuration back."""
    options = merge(embedded(tmp_path_factory.mktemp("steady")), {"wsgi": {"workers": request.param}})
    with require(lambda: Gateway(options)) as gateway:
        yield gateway


def processes(gateway):
    """The gateway's processes, the main one first."""
    main = psutil.Process(gateway.pid)
    return [main, *main.children()]


def rewrite(gateway, old, new):
    gateway.config_file.write_text(gateway.config_file.read_text().replace(old, new))


def left_in(folder):
    """Names of what the gateway has made in its temporary folder."""
    return {path.name for path in Path(folder).iterdir()} - {"log", "marconi.conf"}


def pop(api, queue, number):
    return api.delete(f"/v2/queues/{queue}/messages", params={"pop": number}).status_code


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGABRT])
def test_workers_end_with_their_supervisor_and_leave_nothing(start_gateway, queue, ending):
    gateway = start_gateway(wsgi={"workers": 2})
    post(Api(gateway.url), queue, 1)
    _, *workers = processes(gateway)
    assert len(workers) == 2

    os.kill(gateway.pid, ending)

    psutil.wait_procs(workers, PATIENCE)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    with closing(socket.socket()) as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", gateway.port))
    assert left_in(gateway.folder) == set()


def test_worker_that_hangs_ends_with_its_supervisor_too(start_gateway):
    gateway = start_gateway(wsgi={"workers": 2, "drain_timeout": 0})
    _, *workers = processes(gateway)
    with closing(socket.create_connection(("127.0.0.1", gateway.port))) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        os.kill(gateway.pid, signal.SIGKILL)
        psutil.wait_procs(workers, PATIENCE)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]


@WORKERS
def test_hangup_reads_the_configuration_and_keeps_processes_and_connections(start_gateway, queue, workers):
    gateway = start_gateway(wsgi={"workers": workers}, transport={"max_messages_per_claim_or_pop": 20})
    api = Api(gateway.url)
    post(api, queue, 1)
    before = [process.pid for process in processes(gateway)]
    assert pop(api, queue, 15) == 200

    rewrite(gateway, "max_messages_per_claim_or_pop = 20", "max_messages_per_claim_or_pop = 10")
    os.kill(gateway.pid, signal.SIGHUP)

    wait_until(lambda: gateway.log.count("as it is now") == workers, PATIENCE, "the new configuration")
    assert {pop(api, queue, 15) for _ in range(10)} == {400}
    assert {pop(Api(gateway.url, api.project), queue, 10) for _ in range(4)} == {200}
    assert [process.pid for process in processes(gateway)] == before

    rewrite(gateway, "max_messages_per_claim_or_pop = 10", "max_messages_per_claim_or_pop = none")
    os.kill(gateway.pid, signal.SIGHUP)
    wait_until(lambda: "the configuration is refused" in gateway.log, PATIENCE, "the refusal")
    assert {pop(api, queue, 10) for _ in range(10)} == {200}
    assert gateway.log.count("the configuration is refused") == 1
    assert "Traceback" not in gateway.log


@pytest.mark.parametrize(("old", "new"), [
    ("uri = loopback://", "uri = carrier-pigeon://user:Tr0ub4dor@loft"),
    ("bind = 127.0.0.1", "bind = 0.0.0.0"),
    ("key = ", "key = x"),
    ("[wsgi]", "[DEFAULT]\nlog_file = /none/marconi.log\n[wsgi]"),
    ("[wsgi]", "[wsgi"),
])
def test_hangup_with_a_bad_configuration_changes_nothing(steady_gateway, queue, old, new):
    gateway = steady_gateway
    api = Api(gateway.url)
    post(api, queue, 1)
    before = [process.pid for process in processes(gateway)]
    good, said_before = gateway.config_file.read_text(), len(gateway.log)
    assert old in good
    rewrite(gateway, old, new)

    os.kill(gateway.pid, signal.SIGHUP)

    # Where it listens does not change, so this may be served with: as far as it goes.
    expected = "a restart is needed" if "bind" in old else "the configuration is refused"
    try:
        wait_until(lambda: expected in gateway.log[said_before:], PATIENCE, "what it says")
    finally:
        gateway.config_file.write_text(good)
    post(api, queue, 2)
    assert [process.pid for process in processes(gateway)][:len(before)] == before
    assert "Tr0ub4dor" not in gateway.log
    assert "Traceback" not in gateway.log


@WORKERS
def test_hangup_of_every_process_at_once_kills_none(start_gateway, queue, workers):
    """As when a terminal is closed."""
    gateway = start_gateway(wsgi={"workers": workers})
    before = [process.pid for process in processes(gateway)]
    for _ in range(3):
        os.killpg(gateway.pid, signal.SIGHUP)
    wait_until(lambda: gateway.log.count("as it is now") >= workers, PATIENCE, "the new configuration")
    post(Api(gateway.url), queue, 1)
    # One more may be trying the configuration.
    assert [process.pid for process in processes(gateway)][:len(before)] == before
    assert gateway.stop() == 0


def test_hangups_leave_nothing_open(start_gateway, queue, tmp_path):
    gateway = start_gateway(audit={"file": tmp_path / "audit"}, DEFAULT={"log_file": tmp_path / "marconi.log"})

    process = psutil.Process(gateway.pid)

    def hang_up():
        count = (tmp_path / "marconi.log").read_text().count("as it is now")
        os.kill(gateway.pid, signal.SIGHUP)
        wait_until(lambda: (tmp_path / "marconi.log").read_text().count("as it is now") > count, PATIENCE)
        post(Api(gateway.url), queue, 1)

    hang_up()
    before = process.num_threads()
    for _ in range(8):
        hang_up()
    wait_until(lambda: process.num_threads() <= before, PATIENCE, "the threads of applications before")

    def opened(name):
        return [file.path for file in process.open_files()].count(str(tmp_path / name))

    wait_until(lambda: opened("audit") <= 1 and opened("marconi.log") == 1, PATIENCE, "files to be closed")


def test_requests_in_progress_survive_a_hangup(start_gateway, queue):
    gateway = start_gateway(wsgi={"workers": 2})
    api = Api(gateway.url)
    refused = []
    for number in range(60):
        if number % 20 == 5:
            os.kill(gateway.pid, signal.SIGHUP)
        answer = api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": number}]})
        if answer.status_code != 201:
            refused.append((number, answer.status_code, answer.text))
        time.sleep(0.05)
    assert not refused
    wait_until(lambda: gateway.log.count("as it is now") >= 4, PATIENCE, "the new configuration")


@WORKERS
@pytest.mark.parametrize("on", ["true", "false"])
def test_fast_paths_can_be_switched_off(start_gateway, queue, workers, on):
    gateway = start_gateway(
        wsgi={"workers": workers, "direct_syscalls": on, "pin_workers": on}, metrics={"shared_memory": on}
    )
    apis = [Api(gateway.url) for _ in range(10)]
    for api in apis:
        post(api, queue, 1)
    shown = {
        float(line.split()[1]) for api in apis for line in api.get("/metrics").text.splitlines()
        if line.startswith('marconi_messages_total{event="posted"}')
    }
    assert max(shown) == 10 if workers == 1 or on == "true" else max(shown) <= 10
    assert {len(psutil.Process(pid).cpu_affinity()) for pid in gateway.worker_pids or [gateway.pid]} == (
        {1} if on == "true" else {len(os.sched_getaffinity(0))}
    )
    assert "can't be used here" not in gateway.log


@WORKERS
def test_temporary_folder_that_is_emptied_fails_nothing(start_gateway, queue, workers):
    gateway = start_gateway(wsgi={"workers": workers})
    api = Api(gateway.url)
    post(api, queue, 1)
    for name in left_in(gateway.folder):
        shutil.rmtree(gateway.folder / name, ignore_errors=True)

    post(api, queue, 2)
    assert "marconi_messages_total" in api.get("/metrics").text
    if workers > 1:
        _, victim, _ = processes(gateway)
        victim.kill()
        wait_until(lambda: len(gateway.worker_pids) == 2 and victim.pid not in gateway.worker_pids, PATIENCE)
        time.sleep(2)
        assert gateway.log.count("replacing it") == 1
        post(api, queue, 3)
        wait_until(lambda: 'event="posted"} 3.0' in api.get("/metrics").text, PATIENCE, "what a dead worker counted")


@WORKERS
def test_no_temporary_folder_fails_nothing(start_gateway, queue, workers, monkeypatch):
    gateway = start_gateway(wsgi={"workers": workers}, transport={"max_messages_post_size": 4_000_000})
    gateway.stop()
    nowhere = {name: "/proc/none" for name in ("TMPDIR", "TEMP", "TMP")}
    monkeypatch.setattr(gateway, "environment", lambda: dict(os.environ) | nowhere | {"PYTHONUNBUFFERED": "1"})
    # There are /tmp and /var/tmp still, so: where no file can be made at all.
    monkeypatch.setattr(gateway, "command", lambda: [
        sys.executable, "-c",
        "import sys, tempfile\n"
        "def none(*_, **__): raise FileNotFoundError('No usable temporary directory found')\n"
        "for name in ('gettempdir', 'mkdtemp', 'mkstemp', 'TemporaryFile', 'NamedTemporaryFile',"
        " 'SpooledTemporaryFile'): setattr(tempfile, name, none)\n"
        f"from gateway.cli import main; sys.exit(main(['serve', '--config-file', '{gateway.config_file}']))",
    ])
    gateway.start()
    api = Api(gateway.url)
    ids = post(api, queue, "x" * 3_000_000)
    assert len(api.get(f"/v2/queues/{queue}/messages/{ids[0]}").json()["body"]) == 3_000_000


def test_refused_configuration_is_one_line_whatever_the_number_of_workers(tmp_path):
    for workers in (1, 3):
        file = tmp_path / "marconi.conf"
        file.write_text(render({
            "wsgi": {"port": free_port(), "workers": workers}, "encryption": {"key": "no"},
            "side_store": {"uri": f"sqlite:///{tmp_path}/marconi.db"},
        }))
        done = subprocess.run(
            [find_command(), "serve", "--config-file", str(file)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1
        assert done.stderr.count("[encryption] key") == 1
        assert "Traceback" not in done.stderr


def test_requests_at_the_start_without_mongodb_all_end_within_the_timeout(start_gateway):
    nobody = f"mongodb://127.0.0.1:{free_port()}/none?replicaSet=rs0"
    gateway = start_gateway(wsgi={"threads": 8}, side_store={"uri": nobody, "timeout": 2.0})

    def ask(number):
        start = time.monotonic()
        return Api(gateway.url).get(f"/v2/queues/q{number}").status_code, time.monotonic() - start

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert {status for status, _ in found} == {503}
    assert max(took for _, took in found) < 3.5


# -- Unix sockets -----------------------------------------------------------------------------------------------------


class OnSocket:
    """A gateway on a Unix socket, and curl."""

    def __init__(self, folder, workers=1, **options):
        self.folder = folder
        self.path = folder / "marconi.sock"
        file = folder / "marconi.conf"
        wsgi = {"bind": f"unix:{self.path}", "workers": workers} | options
        file.write_text(render({"wsgi": wsgi, "side_store": {"uri": f"sqlite:///{folder}/marconi.db"}}))
        self.command = [find_command(), "serve", "--config-file", str(file)]

    def start(self):
        self.log = (self.folder / "log").open("w+")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log, process_group=0)
        wait_until(lambda: self.curl("/")[0] == "300", PATIENCE, "the gateway")
        return self

    def curl(self, path, *arguments):
        done = subprocess.run(
            ["curl", "-s", "-w", "\n%{http_code}", "--unix-socket", str(self.path), f"http://gateway{path}",
             "-H", "Client-ID: 3381af92-2b9e-11e3-b191-71861300734c", "-H", "X-Project-ID: demo",
             "-H", "Content-Type: application/json", *arguments],
            capture_output=True, text=True, timeout=PATIENCE,
        )
        body, _, status = done.stdout.rpartition("\n")
        return status, body

    def stop(self, number=signal.SIGTERM):
        os.kill(self.process.pid, number)
        return self.process.wait(PATIENCE)

    def said(self):
        self.log.seek(0)
        return self.log.read()


@pytest.fixture
def on_socket(tmp_path):
    started = []

    def start(**options):
        started.append(OnSocket(tmp_path, **options).start())
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process.poll() is None:
            os.killpg(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait()
        gateway.log.close()


@WORKERS
def test_unix_socket_serves_and_goes(on_socket, workers):
    gateway = on_socket(workers=workers, socket_mode="600")
    assert stat.S_IMODE(gateway.path.stat().st_mode) == 0o600
    status, body = gateway.curl("/v2/queues/q/messages", "-d", '{"messages": [{"body": 1}]}')
    assert status == "201", body
    assert f"serving on unix:{gateway.path}" in gateway.said()

    second = subprocess.run(gateway.command, capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode == 1
    assert f"can't listen on unix:{gateway.path}: Address already in use" in second.stderr
    assert gateway.curl("/")[0] == "300"

    assert gateway.stop() == 0
    assert not gateway.path.exists()


@WORKERS
def test_unix_socket_of_a_killed_gateway_is_taken_over(on_socket, workers):
    gateway = on_socket(workers=workers)
    os.killpg(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait(PATIENCE)
    assert gateway.path.exists()
    gateway.start()
    assert gateway.stop() == 0
    assert not gateway.path.exists()


def test_unix_socket_goes_with_a_killed_supervisor(on_socket):
    gateway = on_socket(workers=2)
    gateway.stop(signal.SIGKILL)
    wait_until(lambda: not gateway.path.exists(), PATIENCE, "the workers to remove the socket")


def test_unix_socket_replaces_no_file(tmp_path):
    gateway = OnSocket(tmp_path)
    gateway.path.write_text("precious")
    done = subprocess.run(gateway.command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "there is a file that is no socket" in done.stderr
    assert gateway.path.read_text() == "precious"


@pytest.mark.parametrize(
    ("trusted", "address"),
    [("localhost", "192.0.2.1"), ("*", "192.0.2.1"), ("127.0.0.1", "localhost"), (None, "localhost")],
)
def test_proxy_in_front_of_a_unix_socket_is_believed_if_it_is_trusted(
    on_socket, tmp_path, monkeypatch, trusted, address
):
    monkeypatch.setenv("OS_AUDIT__FILE", str(tmp_path / "audit"))
    gateway = on_socket(**({} if trusted is None else {"trusted_proxy": trusted}))
    status, body = gateway.curl("/v2/queues/q", "-X", "PUT", "-H", "X-Forwarded-For: 192.0.2.1")
    assert status == "201", body
    assert json.loads((tmp_path / "audit").read_text())["address"] == address


# -- other servers ----------------------------------------------------------------------------------------------------


#: Answers with the process, the names of its threads, and what a post comes to.
FORKER = """
import io, json, os, sys, threading, time
from gateway.wsgi import app
def call(method, path, document=None):
    body = json.dumps(document).encode() if document is not None else b""
    found = []
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "SERVER_NAME": "x", "SERVER_PORT": "80",
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json", "HTTP_CLIENT_ID": "3381af92-2b9e-11e3-b191-71861300734c",
        "HTTP_X_PROJECT_ID": "demo", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
    }
    data = b"".join(app(environ, lambda status, headers: found.append(status)))
    return found[0][:3], data
time.sleep(0.5)
threads = {thread.name for thread in threading.enumerate()}
assert threads == {"MainThread"}, threads
for child in range(3):
    if not os.fork():
        for number in range(20):
            status, data = call("POST", "/v2/queues/q/messages", {"messages": [{"body": number}]})
            assert status == "201", (status, data)
        names = {thread.name for thread in threading.enumerate()}
        print(sorted(names), flush=True)
        os._exit(0)
assert [os.wait()[1] for _ in range(3)] == [0, 0, 0]
claimed = set()
while (answer := call("POST", "/v2/queues/q/claims", {"ttl": 300}))[0] == "201":
    claimed |= {message["id"] for message in json.loads(answer[1])["messages"]}
assert len(claimed) == 60, len(claimed)
"""


def test_application_that_is_loaded_before_a_fork_works_in_each_process(rabbitmq, mongodb, tmp_path):
    environment = dict(os.environ) | {
        "OS_BRIDGE__URI": rabbitmq.uri, "OS_SIDE_STORE__URI": mongodb.database_uri(f"fork_{uuid.uuid4().hex[:8]}"),
    }
    done = subprocess.run(
        [sys.executable, "-c", FORKER], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("housekeeper") == done.stdout.count("amqp-keeper") == 3


def test_gunicorn_that_preloads_serves(tmp_path):
    pytest.importorskip("gunicorn")
    port = free_port()
    environment = dict(os.environ) | {"OS_SIDE_STORE__URI": f"sqlite:///{tmp_path}/marconi.db"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-k", "gthread", "--threads", "4",
             "-b", f"127.0.0.1:{port}", "gateway.wsgi:app"],
            env=environment, stdout=log, stderr=log, cwd=tmp_path,
        )
    try:
        api = Api(f"http://127.0.0.1:{port}")

        def answers():
            try:
                return api.get("/").status_code == 300
            except requests.ConnectionError:
                return False

        wait_until(answers, PATIENCE, "gunicorn")
        posted = [post(Api(api.url, api.project), "q", number) for number in range(20)]
        assert len({ids[0] for ids in posted}) == 20
        assert api.get("/v2/queues/q/stats").json()["messages"]["total"] == 20
    finally:
        server.terminate()
        server.wait(PATIENCE)


@pytest.mark.parametrize(("name", "value"), [
    ("OS_WSGI__BIND", "0.0.0.0"), ("OS_ENCRYPTION__KEY", "AAEC"),
    ("OS_BRIDGE__URI", "carrier-pigeon://user:Tr0ub4dor@loft"),
])
def test_application_refuses_what_serve_refuses(tmp_path, name, value):
    environment = dict(os.environ) | {"OS_SIDE_STORE__URI": f"sqlite:///{tmp_path}/marconi.db", name: value}
    done = subprocess.run(
        [sys.executable, "-c", "import gateway.wsgi"], env=environment, capture_output=True, text=True, timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "CannotServe" in done.stdout + done.stderr
    assert "Tr0ub4dor" not in done.stdout + done.stderr


@pytest.mark.parametrize(("uri", "loaded"), [("loopback://", False), ("redis://127.0.0.1:1", True)])
def test_library_for_redis_is_loaded_only_for_redis(monkeypatch, start_gateway, uri, loaded):
    """It takes about 0.1 s and 7 MB, though each start wants to know the options of all drivers."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    gateway = start_gateway(bridge={"uri": uri})
    lines = gateway.log_path.read_text().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "bridges.redis.options" in imported
    assert ("redis" in imported) == loaded
