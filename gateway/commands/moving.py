"""``marconi migrate`` and ``marconi evacuate``: begin to move queues to other pools, and watch it.

The work is done by all gateways and by this process. What has begun goes on without it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from bridges.errors import BridgeError
from gateway.app import make_core
from gateway.commands.progress import Progress
from gateway.core.core import Core
from gateway.core.errors import CoreError, NotFound
from gateway.observe.logs import printable
from gateway.observe.masking import without_password
from storage.errors import StoreError

#: What may go wrong besides the configuration.
FAULTS = (BridgeError, StoreError, CoreError)

#: Seconds between two looks at how far it is.
LOOK = 0.25

#: Exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130


def migrate(conf: Any, project: str, queue: str, target: str | None, cancel: bool, wait: bool) -> int:
    """Move a queue to the pool ``target``, or cancel its move; the exit status."""

    def run(core: Core) -> int:
        if cancel:
            core.migrations.cancel(project, queue)
            print(f"Queue {queue} stays in pool {core.migrations.get(project, queue).pool}.")
            return 0
        assert target is not None  # nosec B101  # the command line makes sure of it
        move = core.migrations.get(project, queue).move
        if move is None or move.target != target:  # else it is watched
            core.migrations.start(project, queue, target)
        if not wait:
            print(f"Queue {queue} moves to pool {target}; the gateways do it.")
            return 0
        return _watch("messages", lambda progress: _migration(core, project, queue, target, progress))

    return _with_core(conf, run)


def _migration(core: Core, project: str, queue: str, target: str, progress: Progress) -> int | None:
    """Show how far a queue's move is; the exit status once it is over."""
    place = core.migrations.get(project, queue)
    if place.move is not None:
        problem = f", {_said(place.move.error)}" if place.move.error else ""
        progress.show(place.move.moved, place.waiting, f"{place.move.phase}{problem}")
        return None
    if place.pool == target:
        progress.note(f"Queue {queue} is in pool {target}.")
        return 0
    progress.note(f"Queue {queue} stays in pool {place.pool}: somebody has cancelled the move.")
    return 1


def evacuate(conf: Any, pool: str, target: str, cancel: bool, wait: bool) -> int:
    """Move all queues of a pool to the pool ``target``, or each to where a new one would be put; the exit status."""

    def run(core: Core) -> int:
        if cancel:
            core.migrations.cancel_evacuation(pool)
            print(f"No more queues leave pool {pool}; those on their way go on.")
            return 0
        core.migrations.evacuate(pool, target)
        if not wait:
            print(f"The queues of pool {pool} move to {target or 'other pools'}; the gateways do it.")
            return 0
        moved = _Moved()
        return _watch("queues", lambda progress: _evacuation(core, pool, moved, progress))

    return _with_core(conf, run)


class _Moved:
    """How many queues there were."""

    most = 0


def _evacuation(core: Core, pool: str, moved: _Moved, progress: Progress) -> int | None:
    """Show how far a pool's evacuation is; the exit status once it is over."""
    found = core.migrations.evacuation(pool)
    if found is None:
        progress.note(f"Queues stay in pool {pool}: somebody has cancelled its evacuation.")
        return 1
    left = found.queues - found.bridged
    moved.most = max(moved.most, left)
    if left:
        progress.show(moved.most - left, left, f"{found.moving} on their way")
        return None
    if found.bridged:
        progress.note(
            f"{found.bridged} queues stay in pool {pool}: they are topics, are bridged to objects of others on its"
            " broker, or feed another queue or are fed by one."
        )
        return 1
    progress.note(
        f"Pool {pool} is empty. No new queue is put there until you delete it, or end this with"
        f" `marconi evacuate {pool} --cancel`."
    )
    return 0


def _with_core(conf: Any, run: Callable[[Core], int]) -> int:
    """What ``run`` returns; 1 if it can't be done, with a line that says why."""
    core = make_core(conf)
    try:
        return run(core)
    except FAULTS as error:
        print(f"marconi: {_said(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("The gateways go on with it. Call this again to watch it, or with --cancel to end it.", file=sys.stderr)
        return INTERRUPTED
    finally:
        core.close()


def _watch(unit: str, look: Callable[[Progress], int | None]) -> int:
    """Look until it is over; the exit status. Raises NotFound if what moves is gone."""
    progress = Progress(sys.stdout, unit)
    try:
        while True:
            try:
                status = look(progress)
            except NotFound:
                raise
            except FAULTS as error:  # the gateways try again, and so do we
                status = None
                progress.note(f"How far it is can't be read now: {_said(str(error))}")
            if status is not None:
                return status
            time.sleep(LOOK)
    finally:
        progress.close()


def _said(text: str) -> str:
    return printable(without_password(text))
