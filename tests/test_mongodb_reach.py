"""What calls find out about MongoDB, and what becomes of others then."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, ExecutionTimeout, NetworkTimeout, ServerSelectionTimeoutError

from storage.errors import StoreUnavailable
from storage.mongodb.reach import Reach
from tests.threads import DEADLINE, in_background

TIMEOUT = 2.0


class Server:
    """Answers the question whether it is there."""

    def __init__(self) -> None:
        self.asked = 0
        self.fault: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()

    def ask(self) -> None:
        self.asked += 1
        assert self.go_on.wait(DEADLINE)
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def reach(server: Server) -> Reach:
    return Reach(TIMEOUT, server.ask)


def call(reach: Reach, fault: Exception | None = None, work: Callable[[], Any] = lambda: None) -> str | None:
    """Why a call failed."""
    try:
        with reach.call():
            work()
            if fault is not None:
                raise fault
        return None
    except StoreUnavailable as error:
        return str(error)


def test_one_slow_command_stops_no_other_call(reach: Reach, server: Server) -> None:
    assert "NetworkTimeout" in str(call(reach, NetworkTimeout("slow")))
    server.go_on.clear()
    finding_out = in_background(lambda: call(reach))
    while not server.asked:
        time.sleep(0.001)
    assert [call(reach) for _ in range(3)] == [None] * 3
    server.go_on.set()
    assert finding_out.result(DEADLINE) is None
    assert call(reach) is None
    assert server.asked == 1


@pytest.mark.parametrize("fault", [ExecutionTimeout("slow", 50), AutoReconnect("broken")], ids=["slow", "broken"])
def test_answer_that_says_no_is_no_reason_to_ask(reach: Reach, server: Server, fault: Exception) -> None:
    assert call(reach, fault) is not None
    assert call(reach) is None
    assert (server.asked, reach.down) == (0, None)


def test_command_that_is_slow_while_others_get_answers_is_no_reason_to_ask(reach: Reach, server: Server) -> None:
    assert call(reach, NetworkTimeout("slow"), lambda: in_background(lambda: call(reach)).result(DEADLINE))
    assert call(reach) is None
    assert server.asked == 0


def test_server_that_does_not_answer_is_down(reach: Reach, server: Server) -> None:
    call(reach, NetworkTimeout("slow"))
    server.fault = NetworkTimeout("frozen")
    assert "frozen" in str(call(reach))
    assert "frozen" in str(reach.down)
    server.fault = None
    assert call(reach) is None
    assert reach.down is None


def test_while_no_server_is_found_one_call_tries_and_the_others_fail_at_once(reach: Reach, server: Server) -> None:
    call(reach, ServerSelectionTimeoutError("nobody there"))
    server.go_on.clear()
    trying = in_background(lambda: call(reach))
    while not server.asked:
        time.sleep(0.001)
    assert ["nobody there" in str(call(reach)) for _ in range(3)] == [True] * 3
    server.go_on.set()
    assert trying.result(DEADLINE) is None
    assert call(reach) is None


def test_calls_inside_of_a_call_share_its_time(reach: Reach) -> None:
    with reach.call():
        first = reach.left
        time.sleep(0.05)
        with reach.call():
            assert reach.left < first - 0.04
        assert reach.left < first - 0.04
    with reach.call(most=0.5):
        assert reach.left <= 0.5
    assert reach.left == pytest.approx(TIMEOUT, abs=0.1)


def test_error_in_a_part_of_a_call_ends_all_of_it(reach: Reach) -> None:
    with pytest.raises(StoreUnavailable, match="broken"), reach.call(), reach.call():
        raise AutoReconnect("broken")
    assert call(reach) is None
