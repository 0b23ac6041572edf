"""OpenStack Zaqar, as close to the gateway's own settings as it allows: `python -m functional.peers.zaqar`.

Installs Zaqar into a virtual environment of its own, which is kept for the next time, and serves it with waitress and
eight threads until it is interrupted. The database has to exist: a replica set of one is what the gateway uses too.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from urllib.parse import urlsplit

from functional.services.ports import accepts, free_port
from functional.services.process import Service

VERSION = "23.0.1"

#: pymongo is what Zaqar wants its operators to install beside it for this store.
REQUIREMENTS = (f"zaqar=={VERSION}", "pymongo>=4.7", "waitress>=3.0")

#: Threads of a gateway worker by default.
THREADS = 8

DEFAULT_PORT = 8889

#: Of the virtual environment; a folder of this user, as what is in it will be run.
DEFAULT_CACHE = Path.home() / ".cache" / "marconi-peers"

#: `unreliable` only drops the demand for a driver that knows it is on a replica set: Zaqar asks pymongo for a class
#: that is gone since pymongo 4. The write concern makes it as durable as the gateway.
CONFIG = """\
[DEFAULT]
unreliable = True
auth_strategy =

[drivers]
transport = wsgi
message_store = mongodb
management_store = mongodb

[drivers:message_store:mongodb]
uri = {uri}
database = zaqar_messages

[drivers:management_store:mongodb]
uri = {uri}
database = zaqar_management
"""

DURABLE = "w=majority&journal=true"


def install(cache: Path) -> Path:
    """Zaqar in a virtual environment below `cache`; the folder of its commands."""
    folder = cache / f"zaqar-{VERSION}-python{sys.version_info.major}.{sys.version_info.minor}"
    commands = folder / "bin"
    done = folder / "installed"
    if not done.exists():  # else it was interrupted half-way
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        venv.create(folder, with_pip=True, clear=True)
        install = [str(commands / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS]
        subprocess.run(install, env=without_ours(), check=True)
        done.touch()
    return commands


def configure(home: Path, mongodb: str) -> None:
    """Write the configuration where Zaqar looks for it when `home` is the home folder.

    `mongodb` is an address without options and database: `mongodb://host:port`.
    """
    folder = home / ".zaqar"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "zaqar.conf"
    file.touch(mode=0o600)
    # oslo.config takes $ for the beginning of a variable.
    file.write_text(CONFIG.format(uri=f"{mongodb.rstrip('/')}/?{DURABLE}".replace("$", "$$")))


def command(commands: Path, port: int) -> list[str]:
    """What serves Zaqar on a port of 127.0.0.1."""
    return [
        str(commands / "waitress-serve"), f"--threads={THREADS}", f"--listen=127.0.0.1:{port}",
        "zaqar.transport.wsgi.app:app",
    ]


def environment(home: Path) -> dict[str, str]:
    """An environment in which Zaqar finds its configuration."""
    return without_ours() | {"HOME": str(home)}


def without_ours() -> dict[str, str]:
    """Our environment without what leads Python to our packages, or oslo.config to our options."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "PYTHON"))}


class Zaqar(Service):
    """Zaqar on 127.0.0.1, ready when it answers."""

    def __init__(self, mongodb: str, cache: Path = DEFAULT_CACHE, port: int | None = None) -> None:
        self._commands = install(cache)
        super().__init__("zaqar")
        self.port = port or free_port()
        configure(self.folder, mongodb)

    @property
    def url(self) -> str:
        """Root of the service, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return command(self._commands, self.port)

    def environment(self) -> dict[str, str]:
        return environment(self.folder)

    def is_ready(self) -> bool:
        return accepts(self.port)


def address(text: str) -> str:
    """A MongoDB address as `configure` wants it; ValueError if it is another."""
    parts = urlsplit(text)
    if parts.scheme != "mongodb" or not parts.netloc or parts.query or parts.path not in ("", "/"):
        raise ValueError
    return text


def main() -> int:
    """The command line; 1 if Zaqar ended by itself."""
    parser = argparse.ArgumentParser(prog="python -m functional.peers.zaqar", description=__doc__)
    parser.add_argument(
        "--mongodb", type=address, required=True, metavar="URI",
        help="mongodb://HOST:PORT, without a database and options",
    )
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="HTTP port on 127.0.0.1 (default: %(default)s)"
    )
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, metavar="FOLDER",
        help="where the virtual environment is kept (default: %(default)s)",
    )
    options = parser.parse_args()
    commands = install(options.cache)
    with tempfile.TemporaryDirectory(prefix="marconi-zaqar-") as home:
        configure(Path(home), options.mongodb)
        server = subprocess.Popen(command(commands, options.port), env=environment(Path(home)), cwd=home)
        print(f"Zaqar {VERSION} on http://127.0.0.1:{options.port}, process {server.pid}", flush=True)
        # Ctrl-C reaches the server too; what only reaches us is handed on, and both times it is waited for.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: server.terminate())
        return 0 if server.wait() in (0, -signal.SIGTERM) else 1


if __name__ == "__main__":
    sys.exit(main())
