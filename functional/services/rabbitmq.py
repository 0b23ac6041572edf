"""A private RabbitMQ node that shares nothing with an installed service, its cookie or its epmd."""

import functools
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import pika
import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from functional.services.certificates import Pair
from functional.services.ports import accepts, free_port
from functional.services.process import Missing, Service
from functional.wait import wait_until

INSTALL = "install it: `apt-get install rabbitmq-server` or `brew install rabbitmq`"

#: Where the packages keep the real scripts. The ones on the PATH of Debian and Red Hat refuse ordinary users,
#: and for root they switch to the user of the system's own node.
PACKAGED_SCRIPTS = Path("/usr/lib/rabbitmq/bin")

#: Variable with the folder of a later RabbitMQ that unpack-rabbitmq.sh has made: used instead of the installed one.
UNPACKED = "MARCONI_RABBITMQ"

#: Where unpack-rabbitmq.sh puts one for `make test`.
LATER = Path(__file__).parents[2] / "var/rabbitmq-4"

#: Seconds that one rabbitmqctl call may take; joining a cluster is the slowest.
CTL_TIMEOUT = 60.0

#: Seconds for a connection attempt: on a node of this machine only a hung one needs more.
CONNECT_TIMEOUT = 5.0

#: One secret for all nodes of this run, so that any two of them can form a cluster, and only they.
COOKIE = secrets.token_hex(16)

#: Seconds until a new quorum queue is on disk. RabbitMQ's Raft library saves its names every half second.
SAVE_TIMEOUT = 10.0

#: Two schedulers, as several nodes share a small machine; distribution on the loopback interface only.
ERLANG_ARGUMENTS = "+S 2:2 -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"

CONFIG = """\
loopback_users = none
log.console = true
log.file = false
# As by default: a limit relative to the memory would stop publishers on small disks.
disk_free_limit.absolute = 50MB
"""


#: Who connects must show a certificate.
TLS_CONFIG = """\
listeners.ssl.default = 127.0.0.1:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {pair.certificate}
ssl_options.keyfile = {pair.key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""

#: The name in the certificate is the user's.
EXTERNAL_CONFIG = """\
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
ssl_cert_login_from = common_name
"""


def find_scripts(unpacked: Path | None = None) -> Path:
    """The folder of the scripts rabbitmq-server and rabbitmqctl; ``unpacked``: where UNPACKED would point to."""
    if (folder := unpacked or _unpacked()) is not None:
        if not (folder / "version").exists():
            raise Missing(f"no RabbitMQ in {folder}; unpack one: `functional/unpack-rabbitmq.sh {folder}`")
        return folder.resolve() / "root/usr/lib/rabbitmq/bin"
    on_path = shutil.which("rabbitmq-server")
    folders = [PACKAGED_SCRIPTS] + ([Path(on_path).resolve().parent] if on_path else [])
    for folder in folders:
        if (folder / "rabbitmq-server").exists() and shutil.which("epmd"):
            return folder
    raise Missing(f"rabbitmq-server is not installed; {INSTALL}")


class Epmd(Service):
    """Erlang's port mapper, in the foreground: what a node starts on its own is a daemon that stays."""

    start_timeout = 10.0

    def __init__(self) -> None:
        super().__init__("epmd")
        self.port = free_port()

    def command(self) -> list[str]:
        return ["epmd"]

    def environment(self) -> dict[str, str]:
        return _without_erlang_settings() | self.settings

    @property
    def settings(self) -> dict[str, str]:
        """What makes an Erlang VM use this port mapper."""
        return {"ERL_EPMD_PORT": str(self.port), "ERL_EPMD_ADDRESS": "127.0.0.1"}

    def is_ready(self) -> bool:
        return accepts(self.port)


@functools.cache
def shared_epmd() -> Epmd:
    """The port mapper of all nodes of this process; it ends with the process."""
    return Epmd().start()


class RabbitMQ(Service):
    """One node, on its own or (see `join`) in a cluster with others of this process.

    With `tls`, an authority's file and what it has signed for the node, it listens on another port for TLS too.
    `external`: clients may log in by certificate. `unpacked`: a RabbitMQ from this folder, see UNPACKED.
    """

    def __init__(
        self, tls: tuple[Path, Pair] | None = None, external: bool = False, unpacked: Path | None = None
    ) -> None:
        self._scripts = find_scripts(unpacked)
        self._unpacked = unpacked
        super().__init__("rabbitmq")
        #: The folder of its data.
        self.data = self.folder / "mnesia"
        self._tls = tls
        self._external = external
        self.tls_port = free_port()
        self.port = free_port()
        self.node = f"marconi-{self.port}@localhost"
        self._environment = self._write_settings()

    @property
    def uri(self) -> str:
        """AMQP address, in the form that pika and kombu both read as the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def tls_uri(self) -> str:
        """The same over TLS, for a node that was made with it."""
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}/%2F"

    def command(self) -> list[str]:
        return [str(self._scripts / "rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        return self._environment | shared_epmd().settings

    def is_ready(self) -> bool:
        if not accepts(self.port):  # asked first, as pika logs every refused connection
            return False
        try:
            self.connect().close()
        except (pika.exceptions.AMQPError, AMQPConnectorException, OSError):
            return False
        return True

    def expiration(self, milliseconds: int) -> str:
        """The property of a native message that lives so long from now on."""
        return str(milliseconds)

    def connect(self, vhost: str = "%2F") -> pika.BlockingConnection:
        """A new native connection."""
        parameters = pika.URLParameters(self.uri.replace("%2F", vhost))
        parameters.socket_timeout = parameters.stack_timeout = CONNECT_TIMEOUT
        parameters.blocked_connection_timeout = CONNECT_TIMEOUT
        return pika.BlockingConnection(parameters)

    def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node and return what it printed."""
        done = subprocess.run(
            [str(self._scripts / "rabbitmqctl"), "--quiet", *arguments],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=CTL_TIMEOUT,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def until_saved(self, queue: str) -> None:
        """Wait until the new quorum queue `queue` would survive a `kill`.

        RabbitMQ confirms messages to a queue whose name Raft has not yet saved. After a crash at that moment
        the queue is still declared, but it never gets a leader, and its messages are out of reach.
        """
        names = self.data / self.node / "quorum" / self.node / "names.dets"
        wait_until(lambda: queue.encode() in names.read_bytes(), SAVE_TIMEOUT, f"{queue} to be on disk")

    def join(self, other: "RabbitMQ") -> None:
        """Become a member of the cluster of `other`; what this node held is lost."""
        self.ctl("stop_app")
        self.ctl("join_cluster", other.node)
        self.ctl("start_app")

    def _write_settings(self) -> dict[str, str]:
        """Write the node's files; return an environment that points to them and to nothing else."""
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(COOKIE)
        cookie.chmod(0o400)  # Erlang refuses one that others can read
        config = self.folder / "rabbitmq.conf"
        config.write_text(CONFIG)
        if self._tls is not None:
            ca, pair = self._tls
            config.write_text(CONFIG + TLS_CONFIG.format(port=self.tls_port, ca=ca, pair=pair))
        plugins = self.folder / "enabled_plugins"
        plugins.write_text("[rabbitmq_auth_mechanism_ssl].\n" if self._external else "[].\n")
        if self._external:
            config.write_text(config.read_text() + EXTERNAL_CONFIG)
        empty = self.folder / "rabbitmq-env.conf"
        empty.touch()
        return _without_erlang_settings(self._unpacked) | {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": str(empty),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
            "RABBITMQ_CTL_ERL_ARGS": "-start_epmd false",
            # The script then becomes the Erlang VM, which takes our signals, instead of waiting for it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }


def _unpacked() -> Path | None:
    folder = os.environ.get(UNPACKED)
    return Path(folder) if folder is not None else None


def _without_erlang_settings(unpacked: Path | None = None) -> dict[str, str]:
    """Our environment without what is meant for another node."""
    foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
    settings = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    if (folder := unpacked or _unpacked()) is not None:  # with an Erlang of its own
        settings["PATH"] = f"{folder.resolve() / 'root/usr/lib/erlang/bin'}{os.pathsep}{settings['PATH']}"
    return settings
