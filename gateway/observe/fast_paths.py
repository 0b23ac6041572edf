"""Fast paths that can't be used here: said in the log, and counted in the metric marconi_fast_path_fallbacks.

A fast path does with the inside of a library or of the system what a slower, ordinary way does too. docs/performance.md
lists all of them.
"""

from __future__ import annotations

import logging

LOG = logging.getLogger(__name__)

#: Fast paths, by the option that switches each of them off.
DIRECT_SYSCALLS = "[wsgi] direct_syscalls"
PIN_WORKERS = "[wsgi] pin_workers"
SHARED_MEMORY = "[metrics] shared_memory"
FAST_CONFIRMS = "[bridge] fast_confirms"
DIRECT_COMMANDS = "[side_store] direct"

FAST_PATHS = (DIRECT_SYSCALLS, PIN_WORKERS, SHARED_MEMORY, FAST_CONFIRMS, DIRECT_COMMANDS)

_said: set[str] = set()


def fell_back(option: str, why: object) -> None:
    """Tell operators that this process takes the slower way in place of a fast path that is switched on.

    ``option``: one of FAST_PATHS. ``why``: the error, or a text. Each process tells it once for each path.
    """
    if option in _said:
        return
    _said.add(option)  # before the metric, whose memory is a fast path too
    LOG.warning("%s can't be used here, so the slower way is taken: %s", option, why)
    from gateway.observe import metrics  # not above: a process decides first where its metrics are kept

    metrics.FAST_PATH_FALLBACKS.labels(option).inc()
