"""Free TCP ports on the loopback interface."""

import random
import socket

#: Below the range that Linux takes for outgoing connections (32768 and up), so that no client socket can
#: occupy the port of a service while the service is down for a restart.
LOWEST, HIGHEST = 10240, 32767

#: Attempts to find a port before giving up: more than this fail only if nearly all are taken.
ATTEMPTS = 200

_given: set[int] = set()


def is_free(port: int) -> bool:
    """Whether nothing is bound to `port` on 127.0.0.1."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now and that this process has not given out before."""
    for _ in range(ATTEMPTS):
        port = random.randint(LOWEST, HIGHEST)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free port between {LOWEST} and {HIGHEST} on 127.0.0.1")


def accepts(port: int) -> bool:
    """Whether something listens on `port` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
