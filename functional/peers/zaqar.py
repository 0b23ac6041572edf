"""OpenStack Zaqar, as close to the gateway's own settings as it allows: `python -m functional.peers.zaqar`.

Installs Zaqar into a virtual environment of its own, which is kept for the next time, and serves it with waitress and
eight threads until it is interrupted. The database has to exist: a replica set of one is what the gateway uses too. So
has the Redis, which is as durable as it is configured (`appendfsync always`).
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from functional.services.ports import accepts, free_port
from functional.services.process import Service

VERSION = "23.0.1"

#: pymongo and redis are what Zaqar wants its operators to install beside it for these stores.
REQUIREMENTS = (f"zaqar=={VERSION}", "pymongo>=4.7", "redis>=5.0", "waitress>=3.0")

#: Threads. With 16 it posted 0.92x as much and claimed 0.85x to 1.04x on two cores.
THREADS = 8

DEFAULT_PORT = 8889

#: Of the virtual environment; a folder of this user, as what is in it will be run.
DEFAULT_CACHE = Path.home() / ".cache" / "marconi-peers"

#: `unreliable` only drops the demand for a driver that calls itself durable. The one for MongoDB does so on a replica
#: set, for which Zaqar asks pymongo for a class that is gone since pymongo 4; the one for Redis never does.
CONFIG = """\
[DEFAULT]
unreliable = True
auth_strategy =

[drivers]
transport = wsgi
message_store = {driver}
management_store = {driver}

[drivers:message_store:{driver}]
{messages}

[drivers:management_store:{driver}]
{management}
"""

#: Without it Zaqar keeps subscriptions and notifies nobody.
NOTIFIER = """
[storage]
message_pipeline = zaqar.notification.notifier
"""

#: The write concern makes it as durable as the gateway.
DURABLE = "w=majority&journal=true"

#: Seconds for an answer of Redis. Zaqar's default is 0.1, which a busy disk exceeds.
REDIS_TIMEOUT = 10

#: Redis databases of Zaqar's messages, and of its queues, pools and flavors.
REDIS_MESSAGES, REDIS_MANAGEMENT = 0, 1


@dataclass(frozen=True)
class Stores:
    """Where Zaqar keeps messages, and where queues: its driver for both, and the options of each."""

    driver: str
    messages: dict[str, str]
    management: dict[str, str]

    @property
    def config(self) -> str:
        """The text of Zaqar's configuration file."""
        return CONFIG.format(driver=self.driver, messages=_options(self.messages), management=_options(self.management))


def _options(values: dict[str, str]) -> str:
    # oslo.config takes $ for the beginning of a variable.
    return "\n".join(f"{name} = {value.replace('$', '$$')}" for name, value in values.items())


def on_mongodb(address: str) -> Stores:
    """Both in MongoDB. The address is without options and database: `mongodb://host:port`."""
    uri = f"{address.rstrip('/')}/?{DURABLE}"
    return Stores(
        "mongodb", {"uri": uri, "database": "zaqar_messages"}, {"uri": uri, "database": "zaqar_management"}
    )


def on_redis(address: str) -> Stores:
    """Both in Redis, so that Zaqar needs no second database. The address is without database: `redis://host:port`."""
    uri = f"{address.rstrip('/')}?socket_timeout={REDIS_TIMEOUT}"
    return Stores(
        "redis", {"uri": f"{uri}&dbid={REDIS_MESSAGES}"}, {"uri": f"{uri}&dbid={REDIS_MANAGEMENT}"}
    )


def install(cache: Path) -> Path:
    """Zaqar in a virtual environment below `cache`; the folder of its commands."""
    folder = cache / f"zaqar-{VERSION}-python{sys.version_info.major}.{sys.version_info.minor}"
    commands = folder / "bin"
    done = folder / "installed"
    wanted = "\n".join(REQUIREMENTS)
    if not done.exists() or done.read_text() != wanted:  # interrupted half-way, or of an earlier version of this list
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        venv.create(folder, with_pip=True, clear=True)
        install = [str(commands / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS]
        subprocess.run(install, env=without_ours(), check=True)
        done.write_text(wanted)
    return commands


def configure(home: Path, stores: Stores, notifies: bool = False) -> None:
    """Write the configuration where Zaqar looks for it when `home` is the home folder. `notifies`: subscribers."""
    folder = home / ".zaqar"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "zaqar.conf"
    file.touch(mode=0o600)
    file.write_text(stores.config + (NOTIFIER if notifies else ""))


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
    """Zaqar on 127.0.0.1, ready when it answers. `notifies`: subscribers, from threads of its process."""

    def __init__(
        self, stores: Stores, cache: Path = DEFAULT_CACHE, port: int | None = None, notifies: bool = False
    ) -> None:
        self._commands = install(cache)
        super().__init__("zaqar")
        self.port = port or free_port()
        configure(self.folder, stores, notifies)

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


def mongodb_address(text: str) -> Stores:
    """Stores in MongoDB, from an address as `on_mongodb` wants it; ValueError if it is another."""
    return on_mongodb(_plain(text, "mongodb"))


def redis_address(text: str) -> Stores:
    """Stores in Redis, from an address as `on_redis` wants it; ValueError if it is another."""
    return on_redis(_plain(text, "redis"))


def _plain(text: str, scheme: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != scheme or not parts.netloc or parts.query or parts.path not in ("", "/"):
        raise ValueError
    return text


def main() -> int:
    """The command line; 1 if Zaqar ended by itself."""
    parser = argparse.ArgumentParser(prog="python -m functional.peers.zaqar", description=__doc__)
    store = parser.add_mutually_exclusive_group(required=True)
    store.add_argument(
        "--mongodb", type=mongodb_address, dest="stores", metavar="URI",
        help="mongodb://HOST:PORT, without a database and options",
    )
    store.add_argument(
        "--redis", type=redis_address, dest="stores", metavar="URI",
        help=f"redis://HOST:PORT; the databases {REDIS_MESSAGES} and {REDIS_MANAGEMENT} are used",
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
        configure(Path(home), options.stores)
        server = subprocess.Popen(command(commands, options.port), env=environment(Path(home)), cwd=home)
        print(f"Zaqar {VERSION} on http://127.0.0.1:{options.port}, process {server.pid}", flush=True)
        # Ctrl-C reaches the server too; what only reaches us is handed on, and both times it is waited for.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, frame: server.terminate())
        return 0 if server.wait() in (0, -signal.SIGTERM) else 1


if __name__ == "__main__":
    sys.exit(main())
