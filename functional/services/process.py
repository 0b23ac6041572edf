"""A service that runs as a child process: ready once started, and gone when its owner is."""

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from functional.wait import wait_until

#: Lines of the log that go into an error: enough for a traceback or a crash report of the broker.
TAIL_LINES = 40

#: Seconds that a process may take to vanish after SIGKILL: the kernel may have to finish its disk writes.
KILL_TIMEOUT = 10.0

#: prctl(2): ask for a signal when the parent dies.
PR_SET_PDEATHSIG = 1


class Missing(RuntimeError):
    """What a service needs is not installed; the text says what, and how to install it."""


class StartFailed(RuntimeError):
    """The service died or did not get ready in time; the text ends with the tail of its log."""


class Service:
    """A child process in a process group and a temporary folder of its own.

    A subclass says what to run (`command`, `environment`) and when it is ready (`is_ready`). The folder, with
    the data and the log, outlives stop and kill, so a restarted service has its data; `close` removes it.
    """

    #: Seconds from start to ready: a broker that was killed on a busy machine recovers its queues first.
    start_timeout = 180.0

    #: Seconds from SIGTERM to SIGKILL.
    stop_timeout = 20.0

    #: What the child gets when this process dies without cleaning up.
    death_signal = signal.SIGKILL

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix=f"marconi-{name}-"))
        self.log_path = self.folder / "log"
        self._child: subprocess.Popen[bytes] | None = None
        self._group: int | None = None
        atexit.register(self.close)

    def command(self) -> list[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """The whole environment of the child."""
        return dict(os.environ)

    def is_ready(self) -> bool:
        """Whether the service does its work by now. Must not raise and must not hang."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start the child and return when it is ready."""
        self.launch()
        self.until_ready()
        return self

    def launch(self) -> None:
        """Start the child and don't wait for it, see `until_ready`."""
        if self.alive:
            raise RuntimeError(f"{self.name} runs already")
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                self.command(),
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=_die_with_parent(self.death_signal),
            )
        self._group = self._child.pid

    def until_ready(self) -> None:
        """Wait until a child that has been launched is ready; it is killed if it does not get so in time."""
        try:
            wait_until(self._is_ready_or_dead, self.start_timeout, f"{self.name} to be ready")
        except TimeoutError as error:
            self.kill()
            raise StartFailed(f"{error}; its log ends with:\n{self.tail()}") from None
        except BaseException:  # Ctrl-C as well
            self.kill()
            raise

    def _is_ready_or_dead(self) -> bool:
        if not self.alive:
            raise StartFailed(f"{self.name} exited with {self.returncode}; its log ends with:\n{self.tail()}")
        return self.is_ready()

    @property
    def alive(self) -> bool:
        """Whether the child runs (a paused one does)."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the child, which is its process group's too."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Exit code of the child, negative if a signal ended it; None while it runs."""
        return self._child.poll() if self._child else None

    @property
    def log(self) -> str:
        """Everything the child wrote to stdout and stderr, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def tail(self) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.splitlines()[-TAIL_LINES:])

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the child exits by itself, for at most `timeout` seconds, and return its exit code."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child.wait(timeout)

    def stop(self) -> int | None:
        """End the child with SIGTERM, in the worst case with SIGKILL, and return its exit code."""
        if self.alive:
            self.resume()
            os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(self.stop_timeout)
        self.kill()
        return self.returncode

    def kill(self) -> None:
        """End the child and what is left of its process group with SIGKILL."""
        if self._group is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._group, signal.SIGKILL)
        self.wait(KILL_TIMEOUT)
        self._group = None  # the number may be somebody else's from now on

    def pause(self) -> None:
        """Freeze the process group: its sockets stay open, and nobody answers."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process group go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def restart(self) -> Self:
        """Stop, and start with the same data on the same port."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """End the child at once and remove its folder: the data is of no use any more."""
        atexit.unregister(self.close)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


S = TypeVar("S", bound=Service)


def start_together(services: Sequence[Service]) -> None:
    """Start services that need each other to get ready, or that take long; return when all are ready."""
    for service in services:
        service.launch()
    for service in services:
        service.until_ready()


def started(stack: contextlib.ExitStack, service: S, say: Callable[[str], None]) -> S:
    """Say that it is started, and start it; the stack ends it."""
    stack.enter_context(contextlib.closing(service))
    say(f"starting {service.name}")
    return service.start()


def _die_with_parent(death_signal: int) -> Callable[[], None] | None:
    """What the child has to call before exec so that it does not outlive this process (Linux only).

    The kernel watches the thread that forked, not the process: a child of a short-lived thread would die with
    that thread, so it goes without.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask
