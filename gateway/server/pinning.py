"""One CPU for all threads of a worker.

Python runs one thread of a process at a time (the GIL). Where the kernel spreads the threads over several CPUs, what
they work on goes from one CPU's caches to the other's with each switch, and each is woken by an interrupt: on two CPUs
a request took up to half as much CPU again as on one. On one CPU a thread that is woken must not get it from the one
that has just woken it, and still has the GIL: both would be switched to once more (docs/performance.md).
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from gateway.observe.beside import beside

LOG = logging.getLogger(__name__)

#: Seconds between two looks at how busy the CPUs are; at random, so that workers don't all move at once.
LOOK = (1.0, 3.0)

#: Part of a CPU that another one must have to spare, beyond what a worker has here, before it moves there.
WORTH_IT = 0.2

#: Columns of /proc/stat in which a CPU does nothing: idle and iowait (proc(5)).
_IDLE = (4, 5)


def pin() -> None:
    """Keep this process, and all threads it will start, on one CPU at a time of those that it may use.

    A thread looks from time to time whether others need that CPU while another one has nothing to do, and moves there.
    Nothing happens where there is only one, or the system can't do it.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    # Each of the two may be forbidden, in a container for instance, and each is of use alone.
    with beside("scheduling as a batch process"):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            # A batch process takes the CPU from nobody when it is woken, not from its own threads either (sched(7)).
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with beside("keeping to one CPU"):
        _pin()


def _pin() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > 1:
        # Workers are forked one after the other, so this spreads them.
        cpu = allowed[os.getpid() % len(allowed)]
        _allow({cpu})
        threading.Thread(target=_follow, args=(cpu, frozenset(allowed)), name="affinity", daemon=True).start()


def choose(cpu: int, idle: Mapping[int, float], used: float) -> int:
    """The CPU to be on: this one, unless another has clearly more to spare.

    ``idle``: part of the time in which each CPU had nothing to do. ``used``: part of this CPU that the process took.
    """
    best = max(idle, key=lambda number: (idle[number], -number))
    return best if idle[best] > idle[cpu] + used + WORTH_IT else cpu


def _follow(cpu: int, allowed: frozenset[int]) -> None:
    try:
        before, took, then = _idle_times(allowed), time.process_time(), time.monotonic()
        while True:
            time.sleep(random.uniform(*LOOK))  # nosec B311  # spreads workers in time
            after, taken, now = _idle_times(allowed), time.process_time(), time.monotonic()
            idle = {number: (after[number] - before[number]) / (now - then) for number in after.keys() & before.keys()}
            if cpu in idle and (better := choose(cpu, idle, (taken - took) / (now - then))) != cpu:
                LOG.debug("moving from CPU %d to CPU %d", cpu, better)
                cpu = better
                _allow({cpu})
            before, took, then = after, taken, now
    except OSError as error:  # the set of CPUs has changed, or there is no /proc
        LOG.info("leaving it to the kernel on which CPU to run: %s", error)
        with beside("leaving it to the kernel on which CPU to run"):
            _allow(allowed)


def _allow(cpus: frozenset[int] | set[int]) -> None:
    """For all threads: those that are started later have it from those that start them. Raises OSError."""
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), cpus)
        except ProcessLookupError:  # it has just ended
            continue


def _idle_times(cpus: frozenset[int]) -> dict[int, float]:
    """Seconds that each of these CPUs has had nothing to do since the system was started. Raises OSError."""
    tick: int = os.sysconf("SC_CLK_TCK")
    times = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in cpus:
            times[int(name[3:])] = sum(int(fields[column - 1]) for column in _IDLE) / tick
    return times
