"""``marconi serve``: the listening socket, the worker processes, and their end."""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from typing import Any

from oslo_config import cfg

from bridges.errors import BridgeMisconfigured
from gateway.affinity import pin
from gateway.auth import UnknownStrategy
from gateway.conf import all_opts
from gateway.drivers import UnknownScheme
from gateway.listening import drop_new_connections, listen
from gateway.logs import configure, printable
from gateway.masking import without_password
from gateway.preflight import check_trusted_proxy, unknown_options
from storage.errors import StoreMisconfigured

LOG = logging.getLogger(__name__)

#: Seconds that a worker gets on top of [wsgi] drain_timeout before it is killed.
KILL_MARGIN = 3.0

#: Seconds before a worker that died is replaced: not at once, or one that can't start would burn a core.
RESPAWN_DELAY = 0.5

#: Exit codes of workers that have lost nothing; those that were still starting die of the signal.
CLEAN = (0, -signal.SIGTERM)

#: Seconds between two looks at the workers, and at those that drain.
WATCH_STEP = 0.2
DRAIN_STEP = 0.05


class CannotServe(Exception):
    """The service can't start; the text says why and what to do about it."""


#: What is raised for a configuration that can't work, with a text for the operator.
MISCONFIGURED = (
    BridgeMisconfigured, CannotServe, StoreMisconfigured, UnknownScheme, UnknownStrategy, ValueError, cfg.Error,
)


def serve(conf: Any) -> int:
    """Serve until a signal ends it; the exit status."""
    configure(conf)
    check_trusted_proxy(conf.wsgi.trusted_proxy)
    for unknown in unknown_options(conf, all_opts()):
        LOG.warning("%s", unknown)
    _check_exposure(conf)
    listener = _listen(conf.wsgi.bind, conf.wsgi.port, conf.wsgi.reuse_port)
    if conf.wsgi.workers == 1:
        _work(conf, listener)
        return 0
    return Supervisor(conf, listener).run()


def _check_exposure(conf: Any) -> None:
    """Refuse to let everybody in by accident."""
    if conf.auth_strategy != "noauth" or conf.wsgi.allow_unauthenticated_remote:
        return
    try:
        loopback = ipaddress.ip_address(conf.wsgi.bind).is_loopback
    except ValueError:
        loopback = conf.wsgi.bind == "localhost"
    if not loopback:
        raise CannotServe(
            f"[wsgi] bind = {conf.wsgi.bind} can be reached from other machines, and auth_strategy = noauth lets"
            " everybody use every project. Choose another auth_strategy, or set [wsgi]"
            " allow_unauthenticated_remote = true if that is what you want."
        )


def _listen(host: str, port: int, reuse_port: bool = False) -> socket.socket:
    try:
        return listen(host, port, reuse_port)
    except OSError as error:
        raise CannotServe(f"can't listen on {host} port {port}: {error.strerror or error}") from error


def _work(conf: Any, listener: socket.socket) -> None:
    """One worker, in this process."""
    from gateway.app import make_app, make_core, max_body
    from gateway.server import Server

    if conf.wsgi.pin_workers:
        pin()
    core = make_core(conf)
    server = Server(make_app(conf, core), listener, conf.wsgi, max_body(conf))
    LOG.info("serving on http://%s:%d", *listener.getsockname()[:2])
    server.run(conf.wsgi.drain_timeout, alone=conf.wsgi.workers == 1)
    core.close()
    LOG.info("stopped")


class Supervisor:
    """Keeps as many workers alive as configured; they share the listening socket."""

    def __init__(self, conf: Any, listener: socket.socket):
        self._conf = conf
        self._listener = listener
        self._workers: set[int] = set()
        self._stopping = False
        self._first: int | None = None
        self._misconfigured = False
        self._metrics = tempfile.mkdtemp(prefix="marconi-metrics-")
        # prometheus_client reads this when it is imported, so it is set before gateway.app is.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = self._metrics

    def run(self) -> int:
        """Watch the workers until a signal ends them; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            while not self._stopping:
                while len(self._workers) < self._conf.wsgi.workers and not self._stopping:
                    self._spawn()
                for pid, status in self._reap():
                    if pid == self._first and os.waitstatus_to_exitcode(status) == os.EX_CONFIG:
                        self._misconfigured = self._stopping = True  # so are the others, and those after them
                        break
                    LOG.error("worker %d died (status %d), replacing it", pid, os.waitstatus_to_exitcode(status))
                    time.sleep(RESPAWN_DELAY)
                time.sleep(WATCH_STEP)
            return self._end() or int(self._misconfigured)
        finally:
            shutil.rmtree(self._metrics, ignore_errors=True)

    def _spawn(self) -> None:
        first = self._first is None
        pid = os.fork()
        if pid:
            self._workers.add(pid)
            self._first = self._first or pid
            return
        status = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            _work(self._conf, self._listener)
            status = 0
        except MISCONFIGURED as error:
            if first:
                print(f"marconi: {printable(without_password(str(error)))}", file=sys.stderr)
            status = os.EX_CONFIG
        except Exception:
            LOG.exception("worker failed")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> list[tuple[int, int]]:
        """The workers that have ended, with their wait status."""
        ended = []
        for pid in list(self._workers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._workers.discard(pid)
                ended.append((pid, status))
        if ended:
            from prometheus_client import multiprocess

            for pid, _ in ended:
                multiprocess.mark_process_dead(pid)
        return ended

    def _stop(self, number: int, frame: Any) -> None:
        self._stopping = True

    def _end(self) -> int:
        """Let the workers drain, kill those that don't end."""
        drop_new_connections(self._listener)
        self._listener.close()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self._conf.wsgi.drain_timeout + KILL_MARGIN
        failed = 0
        while self._workers and time.monotonic() < deadline:
            failed += sum(os.waitstatus_to_exitcode(status) not in CLEAN for _, status in self._reap())
            time.sleep(DRAIN_STEP)
        if self._workers:
            LOG.error("killing %d workers that have not ended in time", len(self._workers))
            self._signal(signal.SIGKILL)
            failed += len(self._workers)
        return 1 if failed else 0

    def _signal(self, number: int) -> None:
        for pid in self._workers:
            os.kill(pid, number)
