"""The services themselves: whatever happens to them, their data survives and no process does."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pika
import pika.exceptions
import psutil
import pytest

from functional.installed import require
from functional.services.mongodb import MongoDB, MongoReplicaSet
from functional.services.process import Service, StartFailed
from functional.services.qpid import Qpid
from functional.services.rabbitmq import RabbitMQ, shared_epmd
from functional.services.redis import Redis, WatchedRedis
from functional.wait import wait_until

#: Seconds for processes to vanish once their owner is gone.
GONE_TIMEOUT = 15.0

#: Seconds for a cluster to elect new leaders.
FAILOVER_TIMEOUT = 30.0


@pytest.fixture(params=[RabbitMQ, MongoDB, Qpid, Redis], scope="module")
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with require(request.param) as running:
        yield running


def descendants() -> set[psutil.Process]:
    """Living processes below this one, other than the port mapper, which stays until the end of the run."""
    epmd = shared_epmd().pid
    children = psutil.Process().children(recursive=True)
    return {child for child in children if child.pid != epmd and child.status() != psutil.STATUS_ZOMBIE}


def write(service: Service) -> None:
    """Store something durable."""
    if isinstance(service, RabbitMQ):
        with service.connect() as connection:
            channel = connection.channel()
            channel.queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})
            channel.confirm_delivery()
            channel.basic_publish("", "kept", b"message")
        service.until_saved("kept")
    elif isinstance(service, Qpid):
        with service.connect() as connection:
            channel = connection.channel()
            channel.queue_declare("kept", durable=True)
            channel.confirm_delivery()
            channel.basic_publish("", "kept", b"message", pika.BasicProperties(delivery_mode=2))
    elif isinstance(service, MongoDB):
        with service.connect() as client:
            client.marconi.kept.insert_one({"_id": 1})
    elif isinstance(service, Redis):
        with service.connect() as redis:
            redis.xadd("kept", {"body": "message"})


def holds(service: Service) -> bool:
    """Whether what `write` stored is there."""
    if isinstance(service, RabbitMQ):
        try:
            with service.connect() as connection:
                _, _, body = connection.channel().basic_get("kept")
        except pika.exceptions.AMQPError:  # 541 while the queue's leader is gone and no other is elected
            return False
        return bool(body == b"message")
    if isinstance(service, Redis):
        with service.connect() as redis:
            return redis.xlen("kept") == 1
    if isinstance(service, Qpid):
        with service.connect() as connection:
            return bool(connection.channel().basic_get("kept")[2] == b"message")
    assert isinstance(service, MongoDB)
    with service.connect() as client:
        return client.marconi.kept.count_documents({"_id": 1}) == 1


def test_data_is_there_after_a_clean_stop_and_after_a_kill(service: Service) -> None:
    write(service)
    assert service.stop() == 0
    service.start()
    wait_until(lambda: holds(service), GONE_TIMEOUT, "the data")
    service.kill()
    service.start()
    wait_until(lambda: holds(service), GONE_TIMEOUT, "the data")


def test_paused_service_answers_again_when_resumed(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functional.services.mongodb.CLIENT_TIMEOUT", 1000)
    monkeypatch.setattr("functional.services.redis.CLIENT_TIMEOUT", 1)
    service.pause()
    assert not service.is_ready()
    service.resume()
    assert wait_until(service.is_ready, GONE_TIMEOUT)


def test_nothing_is_left_after_close() -> None:
    before = descendants()
    services = [require(kind).start() for kind in (RabbitMQ, MongoDB, Qpid, Redis)]
    assert descendants() > before
    for service in services:
        service.close()
    wait_until(lambda: descendants() <= before, GONE_TIMEOUT, "all processes to end")
    assert not any(service.folder.exists() for service in services)


def test_processes_die_with_their_owner(tmp_path: Path) -> None:
    require(RabbitMQ).close()  # skips if it is not installed
    require(MongoDB).close()
    require(Qpid).close()
    require(Redis).close()
    script = """
        import os, signal
        from functional.services.mongodb import MongoDB
        from functional.services.qpid import Qpid
        from functional.services.rabbitmq import RabbitMQ, shared_epmd
        from functional.services.redis import Redis
        services = RabbitMQ().start(), MongoDB().start(), Qpid().start(), Redis().start(), shared_epmd()
        print(*(service.pid for service in services), *(service.folder for service in services), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    temporary = os.environ | {"TMPDIR": str(tmp_path)}  # nobody is left to remove the folders
    command = [sys.executable, "-c", textwrap.dedent(script)]
    owner = subprocess.run(command, env=temporary, stdout=subprocess.PIPE, text=True, timeout=120)
    assert owner.returncode == -signal.SIGKILL
    pids = [int(word) for word in owner.stdout.split()[:5]]
    wait_until(lambda: not any(_runs(pid) for pid in pids), GONE_TIMEOUT, "all processes to end")


def _runs(pid: int) -> bool:
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return False
    return bool(status != psutil.STATUS_ZOMBIE)


def test_failed_start_tells_why(tmp_path: Path) -> None:
    class Broken(Service):
        def command(self) -> list[str]:
            return [sys.executable, "-c", "raise SystemExit('the reason')"]

        def is_ready(self) -> bool:
            return False

    broken = Broken("broken")
    with pytest.raises(StartFailed, match="exited with 1(.|\n)*the reason"):
        broken.start()
    broken.close()


def test_start_gives_up_after_its_timeout() -> None:
    class Hanging(Service):
        start_timeout = 0.2

        def command(self) -> list[str]:
            return [sys.executable, "-c", "import signal; signal.pause()"]

        def is_ready(self) -> bool:
            return False

    hanging = Hanging("hanging")
    with pytest.raises(StartFailed, match="waited 0.2 s in vain"):
        hanging.start()
    assert not hanging.alive
    hanging.close()


def test_three_nodes_form_a_cluster_that_survives_one() -> None:
    nodes = [require(RabbitMQ) for _ in range(3)]
    try:
        for node in nodes:
            node.start()
        for node in nodes[1:]:
            node.join(nodes[0])
        write(nodes[0])
        nodes[0].kill()
        wait_until(lambda: holds(nodes[1]), FAILOVER_TIMEOUT, "the queue's new leader")
    finally:
        for node in nodes:
            node.close()


def test_replica_set_elects_another_primary() -> None:
    with require(MongoReplicaSet) as replica_set:
        first = replica_set.primary
        assert first
        first.kill()
        second = wait_until(lambda: replica_set.primary, FAILOVER_TIMEOUT, "a new primary")
    assert second is not first


def test_sentinels_make_a_replica_the_master() -> None:
    with require(WatchedRedis) as watched:
        for sentinel in watched.sentinels:
            wait_until(lambda sentinel=sentinel: sentinel.knows(1, 2), FAILOVER_TIMEOUT, "the Sentinels to be ready")
        watched.first.kill()
        wait_until(lambda: watched.replicas[0].role == "master", FAILOVER_TIMEOUT, "a new master")


def test_tests_run_on_the_rabbitmq_that_was_asked_for(rabbitmq: RabbitMQ, pytestconfig: pytest.Config) -> None:
    folder = pytestconfig.getoption("--rabbitmq")
    if folder is None:
        assert rabbitmq.ctl("version")
    else:
        asked = (pytestconfig.rootpath / folder / "version").read_text().strip()
        assert asked == f"rabbitmq_server-{rabbitmq.ctl('version').strip()}"
