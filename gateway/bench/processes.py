"""The processes of the load; each runs a driver."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from typing import Self

from gateway.bench.driver import Driver, Task
from gateway.bench.outcome import Outcome

#: Seconds that a process may take to end after it is told to.
END_TIMEOUT = 5.0


class LoadFailed(Exception):
    """A process of the load has ended or failed; the text says how."""


def _serve(pipe: Pipe) -> None:
    """Main function of a process: run one task after another until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and then closes the pipe
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(Driver(task).run())
        except Exception as error:  # any error: without an answer the parent would wait forever
            pipe.send(LoadFailed(f"{type(error).__name__}: {error}"))


def _ended(process: SpawnProcess) -> LoadFailed:
    process.join(END_TIMEOUT)
    return LoadFailed(f"a process of the load ended with {process.exitcode}")


class ProcessPool:
    """Processes that run tasks. They are spawned, not forked, so that they inherit no state of the parent."""

    def __init__(self, size: int):
        self._size = size
        self._processes: list[tuple[SpawnProcess, Pipe]] = []
        self._running = 0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._processes.append((process, ours))

    def __len__(self) -> int:
        return self._size

    def begin(self, tasks: Sequence[Task]) -> None:
        """Start the tasks, at most one for each process. Raises LoadFailed if a process has ended."""
        for (process, pipe), task in zip(self._processes, tasks, strict=False):
            try:
                pipe.send(task)
            except OSError:
                raise _ended(process) from None
        self._running = len(tasks)

    def poll(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; whether all tasks have finished."""
        deadline = time.monotonic() + timeout
        return all(pipe.poll(max(0.0, deadline - time.monotonic())) for _, pipe in self._processes[:self._running])

    def finish(self) -> Outcome:
        """Wait for all tasks and add their outcomes. Raises LoadFailed if one of them failed."""
        total = Outcome()
        failure = None
        for process, pipe in self._processes[:self._running]:
            try:
                outcome = pipe.recv()
            except (EOFError, OSError):
                raise _ended(process) from None
            if isinstance(outcome, Outcome):
                total.add(outcome)
            else:
                failure = outcome
        if failure is not None:
            raise failure
        return total

    def close(self) -> None:
        """Stop the processes, whatever they are doing."""
        for _, pipe in self._processes:
            pipe.close()
        for process, _ in self._processes:
            process.terminate()
            process.join(END_TIMEOUT)
        self._processes.clear()

    def restart(self) -> None:
        """Abandon the tasks, and start new processes."""
        self.close()
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
