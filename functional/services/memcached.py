"""A private memcached."""

import getpass
import shutil

from functional.services.ports import accepts, free_port
from functional.services.process import Missing, Service

INSTALL = "install it: `apt-get install memcached` or `brew install memcached`"


class Memcached(Service):
    """Ready when it takes connections; what it keeps is gone when it stops."""

    start_timeout = 10.0

    def __init__(self) -> None:
        self._program = shutil.which("memcached")
        if self._program is None:
            raise Missing(f"memcached is not installed; {INSTALL}")
        super().__init__("memcached")
        self.port = free_port()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        assert self._program is not None
        return [self._program, "-l", "127.0.0.1", "-p", str(self.port), "-u", getpass.getuser()]

    def is_ready(self) -> bool:
        return accepts(self.port)
