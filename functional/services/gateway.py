"""A gateway as operators run it: the console script, with a configuration file."""

import http.client
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from functional.services.ports import free_port
from functional.services.process import Missing, Service

#: Seconds for one answer to the question whether the gateway is up.
PROBE_TIMEOUT = 2.0

#: Configuration: section, option, value. Booleans and numbers are written as an operator would, a list as one line for
#: each of its items.
Options = Mapping[str, Mapping[str, object]]


def find_command() -> str:
    """The console script that belongs to this Python."""
    command = Path(sys.executable).with_name("marconi")
    if not command.exists():
        raise Missing("`marconi` is not installed beside this Python; install it: `pip install -e .`")
    return str(command)


class Gateway(Service):
    """`marconi serve` on 127.0.0.1, ready when it answers; its broker and its side-store may be down."""

    #: The gateway ends its workers itself, for which it needs a signal that it can handle.
    death_signal = signal.SIGTERM

    def __init__(self, options: Options, port: int | None = None) -> None:
        self._command = find_command()
        super().__init__("gateway")
        self.port = port or free_port()
        self.config_file = self.folder / "marconi.conf"
        self.configure(options)

    def configure(self, options: Options) -> None:
        """Write the configuration file; it counts from the next start on."""
        address = {"wsgi": {"bind": "127.0.0.1", "port": self.port}}
        self.config_file.write_text(render(merge(options, address)))

    @property
    def url(self) -> str:
        """Root of the service, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers; none when the gateway is a single process."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def command(self) -> list[str]:
        return [self._command, "serve", "--config-file", str(self.config_file)]

    def environment(self) -> dict[str, str]:
        # A killed gateway's last words count, and it leaves its temporary files behind, which go with the folder.
        return dict(os.environ) | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(self.folder)}

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PROBE_TIMEOUT)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def merge(*layers: Options) -> dict[str, dict[str, object]]:
    """One configuration out of several; a later one wins."""
    merged: dict[str, dict[str, object]] = {}
    for layer in layers:
        for section, values in layer.items():
            merged.setdefault(section, {}).update(values)
    return merged


def render(options: Options) -> str:
    """The text of a configuration file."""
    return "\n".join(
        f"[{section}]\n" + "".join(f"{name} = {_text(value)}\n" for name, value in values.items())
        for section, values in options.items()
    )


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
