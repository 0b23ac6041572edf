"""A private Qpid Broker-J, whose messages are in a Derby database, so that they survive its death."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from functional.services.ports import accepts, free_port
from functional.services.process import Missing, Service

#: Where fetch-qpid.sh puts it.
FOLDER = Path(__file__).parents[2] / "var" / "qpid-10.1.0"

#: Seconds for a connection attempt: on a broker of this machine only a hung one needs more.
CONNECT_TIMEOUT = 5.0

#: The exit code of a Java machine that has ended in order because of SIGTERM.
ENDED_BY_SIGTERM = 128 + signal.SIGTERM

#: What pika looks for in the server's properties before it asks for confirms. The broker can do it and does not say so.
CAPABILITIES = {"publisher_confirms": True, "basic.nack": True}

#: Small, as several services share a small machine, and quick to start.
JAVA_OPTIONS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")

#: The virtual host that clients reach as /.
DEFAULT_VHOST = "default"


def find_qpid() -> Path:
    """The folder of the broker's classes."""
    if shutil.which("java") is None:
        raise Missing("java is not installed; install it: `apt-get install default-jre-headless`")
    if not (FOLDER / "version").exists():
        raise Missing(f"no Qpid Broker-J in {FOLDER}; fetch it: `functional/fetch-qpid.sh {FOLDER}`")
    return FOLDER / "lib"


class Qpid(Service):
    """One broker, with a virtual host / and those that are named besides.

    `users` have a password each, besides guest. `rules` are the broker's access control rules, in the form of its
    files; without rules everybody may do everything.
    """

    java_options = JAVA_OPTIONS

    def __init__(self, *vhosts: str, users: dict[str, str] | None = None, rules: tuple[str, ...] = ()) -> None:
        self._classes = find_qpid()
        super().__init__("qpid")
        self.port = free_port()
        #: The folder of its data.
        self.data = self.folder / "work"
        users = {"guest": "guest", **(users or {})}
        self._config = self.folder / "config.json"
        self._config.write_text(json.dumps(_config((DEFAULT_VHOST, *vhosts), users, self._rules_file(rules))))

    def _rules_file(self, rules: tuple[str, ...]) -> Path | None:
        if not rules:
            return None
        file = self.folder / "rules.acl"
        file.write_text("".join(f"{rule}\n" for rule in rules))
        return file

    @property
    def uri(self) -> str:
        """AMQP address, in the form that pika and kombu both read as the default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def command(self) -> list[str]:
        # The broker's own configuration is in memory and always the file's; each virtual host's is in the folder.
        return [
            "java", *self.java_options, "-cp", f"{self._classes}/*", "org.apache.qpid.server.Main",
            "-st", "Memory", "-icp", str(self._config),
            "-prop", f"qpid.work_dir={self.data}", "-prop", f"qpid.amqp_port={self.port}",
        ]

    def is_ready(self) -> bool:
        if not accepts(self.port):  # asked first, as pika logs every refused connection
            return False
        try:
            self.connect().close()
        except (pika.exceptions.AMQPError, AMQPConnectorException, OSError):
            return False
        return True

    def stop(self) -> int | None:
        code = super().stop()
        return 0 if code == ENDED_BY_SIGTERM else code

    def until_saved(self, queue: str) -> None:
        """Nothing to wait for: a new queue is on disk when the broker has answered."""

    def expiration(self, milliseconds: int) -> str:
        """The property of a native message that lives so long from now on."""
        return str(int(1000 * time.time()) + milliseconds)

    def connect(self, vhost: str = "%2F") -> pika.BlockingConnection:
        """A new native connection."""
        parameters = pika.URLParameters(self.uri.replace("%2F", vhost))
        parameters.socket_timeout = parameters.stack_timeout = CONNECT_TIMEOUT
        parameters.blocked_connection_timeout = CONNECT_TIMEOUT
        connection = pika.BlockingConnection(parameters)
        connection._impl.server_capabilities = dict(CAPABILITIES)
        return connection


def _config(vhosts: tuple[str, ...], users: dict[str, str], rules: Path | None) -> dict[str, Any]:
    """The broker's configuration, in the form of its files."""
    config: dict[str, Any] = {
        "name": "marconi",
        "modelVersion": "9.0",
        "authenticationproviders": [{
            "name": "plain", "type": "Plain", "secureOnlyMechanisms": [],
            "users": [{"name": name, "type": "managed", "password": password} for name, password in users.items()],
        }],
        "brokerloggers": [{"name": "console", "type": "Console", "brokerloginclusionrules": [
            {"name": "Root", "type": "NameAndLevel", "level": "WARN", "loggerName": "ROOT"},
            {"name": "Operational", "type": "NameAndLevel", "level": "INFO", "loggerName": "qpid.message.*"},
        ]}],
        "ports": [{
            "name": "AMQP", "type": "AMQP", "bindingAddress": "127.0.0.1", "port": "${qpid.amqp_port}",
            "authenticationProvider": "plain", "protocols": ["AMQP_0_9_1"],
            "virtualhostaliases": [
                {"name": "defaultAlias", "type": "defaultAlias"}, {"name": "nameAlias", "type": "nameAlias"},
            ],
        }],
        "virtualhostnodes": [
            {
                "name": name, "type": "JSON", "defaultVirtualHostNode": name == DEFAULT_VHOST,
                "virtualHostInitialConfiguration": json.dumps({"type": "DERBY"}),
            }
            for name in vhosts
        ],
    }
    if rules is not None:
        config["accesscontrolproviders"] = [{"name": "rules", "type": "AclFile", "path": str(rules)}]
    return config
