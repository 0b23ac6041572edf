"""One CPU for a worker's threads."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import gateway.server.pinning
from gateway.server.pinning import best_cpu

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system can't pin")

several = pytest.mark.skipif(
    hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2, reason="there is only one CPU"
)

#: Pins itself, starts a thread, and prints on which CPUs each of its threads may run.
PROGRAM = """
import os, threading
from gateway.server.pinning import pin_process
pin_process()
end = threading.Event()
threading.Thread(target=end.wait).start()
print(*{cpu for thread in os.listdir("/proc/self/task") for cpu in os.sched_getaffinity(int(thread))})
end.set()
"""


@pytest.mark.parametrize(("idle", "used", "expected"), [
    ({0: 0.5, 1: 0.5}, 0.5, 0),
    ({0: 0.0, 1: 1.0}, 1.0, 0),  # it is itself what fills the CPU
    ({0: 0.0, 1: 0.9}, 0.4, 1),
    ({0: 0.0, 1: 0.5}, 0.4, 0),  # too little to gain
    ({0: 0.0, 1: 0.0, 2: 0.7, 3: 0.9}, 0.1, 3),
    ({0: 0.1, 1: 0.9, 2: 0.9}, 0.0, 1),
    ({0: 1.0, 1: 1.0}, 0.0, 0),
])
def test_moves_only_where_there_is_clearly_more_to_spare(idle: dict[int, float], used: float, expected: int) -> None:
    assert best_cpu(0, idle, used) == expected


@several
def test_all_threads_are_on_one_cpu() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1
    assert int(done.stdout) in os.sched_getaffinity(0)


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[set[int]]]:
    """Where the threads were allowed to run, instead of really being moved."""
    made: list[set[int]] = []
    monkeypatch.setattr(gateway.server.pinning, "_set_affinity", lambda cpus: made.append(set(cpus)))
    monkeypatch.setattr(gateway.server.pinning, "LOOK_INTERVAL", (0.0, 0.0))
    yield made


def test_follows_the_idle_cpu_and_gives_up_when_the_system_says_no(
    moves: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Much more than the time between two looks, so that the part of it that this takes does not matter.
    looks = iter([{0: 0.0, 1: 0.0}, {0: 0.0, 1: 1000.0}, {0: 1000.0, 1: 1000.0}])

    def idle_times(cpus: frozenset[int]) -> dict[int, float]:
        try:
            return next(looks)
        except StopIteration:
            raise OSError("no /proc") from None

    monkeypatch.setattr(gateway.server.pinning, "_idle_times", idle_times)
    gateway.server.pinning._follow_idle_cpu(0, frozenset({0, 1}))

    assert moves == [{1}, {0}, {0, 1}]


def test_idle_times_grow() -> None:
    cpus = frozenset(os.sched_getaffinity(0))
    first = gateway.server.pinning._idle_times(cpus)
    assert first.keys() == cpus
    assert all(gateway.server.pinning._idle_times(cpus)[cpu] >= seconds > 0 for cpu, seconds in first.items())
