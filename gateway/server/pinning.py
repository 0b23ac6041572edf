"""One CPU for all threads of a worker.

Python runs one thread of a process at a time (the GIL). If the kernel spreads the threads over several CPUs, their data
moves from one CPU's caches to the other's with each switch, and each thread is woken by an interrupt: on two CPUs a
request took up to 1.5 times as much CPU as on one. On one CPU, a thread that is woken must not take the CPU from the
thread that has just woken it and still holds the GIL: that would cost two more switches (docs/performance.md).
"""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from gateway.observe.beside import beside
from gateway.observe.fast_paths import PIN_WORKERS, fell_back

LOG = logging.getLogger(__name__)

#: Shortest and longest time in seconds between two looks at how busy the CPUs are; random, so that workers don't all
#: move at once.
LOOK_INTERVAL = (1.0, 3.0)

#: Part of a CPU that another one must have to spare, beyond what this one has for the worker, before the worker moves.
LEAST_GAIN = 0.2

#: Columns of /proc/stat with the time in which a CPU is idle: idle and iowait (proc(5)).
_IDLE = (4, 5)


def pin_process() -> None:
    """Keep this process, and all threads it will start, on one CPU at a time of those that it may use.

    A thread looks from time to time whether others need that CPU while another one is idle, and moves the process
    there. Where there is only one CPU nothing happens; where the system can't do it, operators are told.
    """
    if not hasattr(os, "sched_setaffinity"):
        fell_back(PIN_WORKERS, f"{sys.platform} can't pin a process to a CPU")
        return
    # Each of the two may be forbidden, in a container for instance, and each is of use alone.
    for step in (_schedule_as_batch, _pin):
        try:
            step()
        except Exception as error:
            fell_back(PIN_WORKERS, error)


def _schedule_as_batch() -> None:
    """A batch process takes the CPU from nobody when it is woken, not from its own threads either (sched(7))."""
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _pin() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) > 1:
        # Workers are forked one after the other, so this spreads them.
        cpu = allowed[os.getpid() % len(allowed)]
        _set_affinity({cpu})
        threading.Thread(
            target=_follow_idle_cpu, args=(cpu, frozenset(allowed)), name="affinity", daemon=True
        ).start()


def best_cpu(cpu: int, idle: Mapping[int, float], used: float) -> int:
    """The CPU to run on: ``cpu``, unless another one has clearly more to spare.

    ``idle``: for each CPU, the part of the time in which it was idle. ``used``: the part of ``cpu`` that this process
    used. Both are between 0 and 1.
    """
    best = max(idle, key=lambda number: (idle[number], -number))
    return best if idle[best] > idle[cpu] + used + LEAST_GAIN else cpu


def _follow_idle_cpu(cpu: int, allowed: frozenset[int]) -> None:
    try:
        before, took, then = _idle_times(allowed), time.process_time(), time.monotonic()
        while True:
            time.sleep(random.uniform(*LOOK_INTERVAL))  # nosec B311  # spreads workers in time
            after, taken, now = _idle_times(allowed), time.process_time(), time.monotonic()
            idle = {number: (after[number] - before[number]) / (now - then) for number in after.keys() & before.keys()}
            if cpu in idle and (better := best_cpu(cpu, idle, (taken - took) / (now - then))) != cpu:
                LOG.debug("moving from CPU %d to CPU %d", cpu, better)
                cpu = better
                _set_affinity({cpu})
            before, took, then = after, taken, now
    except OSError as error:  # the set of CPUs has changed, or there is no /proc
        fell_back(PIN_WORKERS, error)
        with beside("leaving it to the kernel on which CPU to run"):
            _set_affinity(allowed)


def _set_affinity(cpus: frozenset[int] | set[int]) -> None:
    """Let all threads run on these CPUs only; threads that they start inherit it. Raises OSError."""
    for thread in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(thread), cpus)
        except ProcessLookupError:  # it has just ended
            continue


def _idle_times(cpus: frozenset[int]) -> dict[int, float]:
    """Seconds that each of these CPUs has been idle since the system was started. Raises OSError."""
    tick: int = os.sysconf("SC_CLK_TCK")
    times = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in cpus:
            times[int(name[3:])] = sum(int(fields[column - 1]) for column in _IDLE) / tick
    return times
