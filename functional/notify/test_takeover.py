"""Gateways that die, hang and come back: others deliver what is left, and nothing is lost."""

import os
import signal
import subprocess
import time

import pytest

from functional.http import Api
from functional.notify.receivers import answers, fast, receiving, slow
from functional.notify.subscribers import Subscriber
from functional.services.gateway import find_command
from functional.wait import wait_until

#: Seconds until the share of a gateway that was killed is taken over, and its messages have come back.
TAKEN_OVER = 120.0


@pytest.mark.slow
def test_another_gateway_delivers_the_rest_when_one_is_killed(start):
    with receiving(slow) as receiver, receiving(answers(*[500] * 10)) as failing:
        first = start()
        subscriber = Subscriber(Api(first.url))
        subscriber.subscribe(receiver.url)
        subscriber.subscribe(failing.url)
        second = start()
        subscriber.post_many(100)
        wait_until(lambda: len(receiver.requests) > 10, 20)
        first.kill()
        wait_until(
            lambda: set(receiver.messages) == set(failing.messages) == set(range(100)), TAKEN_OVER, "all messages"
        )
        assert second.is_ready()
        # What was under way came again, and no more than that.
        assert len(receiver.messages) <= 100 + 20


def test_a_gateway_that_was_stopped_begins_nothing_on_old_rights(start):
    """It sleeps longer than its share lasts; another one serves meanwhile."""
    with receiving(fast) as receiver:
        first = start(bridge={"heartbeat": 4})  # what the broker has handed to it comes back that soon
        subscriber = Subscriber(Api(first.url))
        subscriber.subscribe(receiver.url)
        subscriber.post("before")
        wait_until(lambda: receiver.messages == ["before"], 15)
        second = start()
        other = Subscriber(Api(second.url, subscriber.api.project), subscriber.queue)
        os.kill(first.pid, signal.SIGSTOP)
        try:
            other.post(*range(10))
            wait_until(lambda: set(receiver.messages) >= set(range(10)), TAKEN_OVER, "the messages posted meanwhile")
        finally:
            os.kill(first.pid, signal.SIGCONT)
        time.sleep(2)
        assert sorted(map(str, receiver.messages)) == sorted(["before", *map(str, range(10))])


def test_all_gateways_stop_and_start_again(start):
    with receiving(answers(*[500] * 5)) as receiver:
        first = start()
        subscriber = Subscriber(Api(first.url))
        subscriber.subscribe(receiver.url)
        subscriber.post(*range(20))
        wait_until(lambda: receiver.requests, 15)
        first.stop()
        first.start()
        wait_until(lambda: set(receiver.messages) == set(range(20)), TAKEN_OVER, "all messages")


def test_processes_of_their_own_deliver_what_servers_leave_to_them(start, tmp_path):
    with receiving(answers(500)) as receiver:
        serving = start(notification={"deliver": False})
        subscriber = Subscriber(Api(serving.url))
        subscriber.subscribe(receiver.url)
        subscriber.post(*range(10))
        time.sleep(2)
        assert receiver.requests == []
        command = [find_command(), "notify", "--processes", "2", "--config-file", str(serving.config_file)]
        log = tmp_path / "log"
        with open(log, "wb") as output, subprocess.Popen(command, stderr=output, stdout=output) as delivering:
            try:
                wait_until(lambda: len(receiver.messages) == 11, TAKEN_OVER, "all messages")
                delivering.send_signal(signal.SIGHUP)
                subscriber.post("later")
                wait_until(lambda: "later" in receiver.messages, TAKEN_OVER, "a message after SIGHUP")
            except TimeoutError as error:
                raise AssertionError(log.read_text()) from error
            finally:
                delivering.send_signal(signal.SIGTERM)
            assert delivering.wait(20) == 0
        assert set(receiver.messages) == {*range(10), "later"}
