"""The options of the service, each declared once; the sample file and docs/configuration.md are made from here."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from oslo_config import cfg, types
from oslo_log import log

from gateway import __version__
from gateway.config.address import Address
from gateway.config.drivers import BRIDGES, SIDE_STORES, driver_classes
from gateway.config.limits import Limits

#: Largest message that MongoDB's 16 MiB documents and the memory of a gateway are good for, in bytes.
MAX_POST_SIZE = 8 * 1024 * 1024

#: Parts of a path, the first of which is not the beginning of a path that the gateway has anyway.
_PREFIX = re.compile(r"(?:/(?!(?:v[0-9.]+|metrics|healthcheck|\.\.?)/?(?:\Z|/))[A-Za-z0-9._~-]+)+/?\Z")


class PathPrefix(types.String):
    """The path below which a proxy has the gateway; may be empty."""

    def __call__(self, value: Any) -> str:
        text: str = super().__call__(value)
        if text.strip("/") and not _PREFIX.match(text):
            raise ValueError("must be a path like /messaging, of A-Z a-z 0-9 . _ ~ - and /, and no path of the API")
        return text.rstrip("/")


DEFAULT_OPTS = (
    cfg.StrOpt(
        "auth_strategy", default="noauth",
        help="How clients prove who they are: noauth believes the X-Project-ID header, basic asks for a user and"
             " password of [basic] htpasswd_file, keystone for a token of the Keystone in [keystone_authtoken].",
    ),
    cfg.BoolOpt("admin_mode", default=False, help="Serve the operator's part of the API (/v2/health)."),
    cfg.BoolOpt("enable_checksum", default=False, help="Show an MD5 checksum of the body with each message."),
    cfg.BoolOpt(
        "client_id_uuid_safe", default=True,
        help="Take only UUIDs as Client-ID. Switched off, any string of min_length_client_id to max_length_client_id"
             " characters will do.",
    ),
    cfg.IntOpt("min_length_client_id", default=10, min=1, max=255, help="Shortest Client-ID that is not a UUID."),
    cfg.IntOpt("max_length_client_id", default=36, min=1, max=255, help="Longest Client-ID that is not a UUID."),
)

WSGI_OPTS = (
    cfg.Opt(
        "bind", type=Address(), default="127.0.0.1",
        help="Address to listen on, or unix: and the absolute path of a Unix socket, as in"
             " unix:/run/marconi/marconi.sock.",
    ),
    cfg.PortOpt("port", default=8888, help="Port to listen on."),
    cfg.Opt(
        "prefix", type=PathPrefix(), default="",
        help="What comes before /v2 in the paths that clients send, like /messaging, when a proxy in front has the"
             " gateway below a path of its own. Every link has it; the proxy may take it off the path or leave it.",
    ),
    cfg.BoolOpt(
        "fast_dispatch", default=True,
        help="Answer calls of the API without Flask's contexts, sessions, signals and hooks, which would add about 0.1"
             " ms of CPU time to each call. Set it to false if hooks of a blueprint must see these calls too.",
    ),
    cfg.StrOpt(
        "socket_mode", default="660", regex="^0?[0-7]{3}$",
        help="Permissions of the Unix socket, in octal: who may write to it may connect.",
    ),
    cfg.IntOpt("threads", default=8, min=1, max=512, help="Requests that one worker process serves at the same time."),
    cfg.IntOpt("workers", default=1, min=1, max=256, help="Worker processes that share the listening socket."),
    cfg.IntOpt(
        "max_queued_requests", default=256, min=1, max=10000,
        help="Requests that wait for a thread of one worker process at the most; one more is answered 503 at once.",
    ),
    cfg.FloatOpt(
        "max_queue_time", default=5.0, min=0.1, max=60.0,
        help="Seconds that a request waits for a thread at the most; then it is answered 503 without being served.",
    ),
    cfg.FloatOpt(
        "client_timeout", default=60.0, min=1.0, max=3600.0,
        help="Seconds that a client gets to send a request, and as many to take the answer, however steadily it goes"
             " on; then its connection is closed.",
    ),
    cfg.IntOpt(
        "drain_timeout", default=10, min=0, max=600,
        help="Seconds that requests in progress get to finish on SIGTERM.",
    ),
    cfg.BoolOpt(
        "reuse_port", default=False,
        help="Let another gateway with this option listen on the same address and port, so that a new one can start"
             " before the old one ends. Linux only.",
    ),
    cfg.BoolOpt(
        "pin_workers", default=True,
        help="Keep each worker on one CPU at a time, where Python needs less of it; a worker moves when others need"
             " that one. Linux only. False: leave it to the kernel.",
    ),
    cfg.StrOpt(
        "trusted_proxy",
        help="Address of the proxy in front, localhost for the clients of a Unix socket, or * for whoever connects: its"
             " X-Forwarded-For and X-Forwarded-Proto are believed. None: nobody's are.",
    ),
    cfg.IntOpt(
        "trusted_proxy_count", default=1, min=1, max=10,
        help="Proxies in front of the gateway, one behind the other, that each append to X-Forwarded-For.",
    ),
    cfg.BoolOpt(
        "allow_unauthenticated_remote", default=False,
        help="With auth_strategy = noauth, allow to bind an address that others than this machine can reach."
             " Whoever reaches it may use every project.",
    ),
)

BRIDGE_OPTS = (
    cfg.StrOpt(
        "uri", default="loopback://", secret=True,
        help="Where messages wait: loopback:// for no broker, amqp://user:password@host:5672/vhost or amqps:// for"
             " RabbitMQ.",
    ),
)

SIDE_STORE_OPTS = (
    cfg.StrOpt(
        "uri", default="sqlite:///marconi.db", secret=True,
        help="Where claims, TTLs and queue metadata are: sqlite:///relative/path, sqlite:////absolute/path or"
             " mongodb://host[,host...]/database?replicaSet=name.",
    ),
)

_LIMITS = Limits()

TRANSPORT_OPTS = (
    cfg.IntOpt(
        "default_message_ttl", default=_LIMITS.default_message_ttl, min=60, max=2**31 - 1,
        help="Seconds that a message lives when neither it nor its queue says.",
    ),
    cfg.IntOpt(
        "default_message_delay", default=_LIMITS.default_message_delay, min=0, max=2**31 - 1,
        help="Seconds for which a new message is hidden when neither it nor its queue says.",
    ),
    cfg.IntOpt(
        "default_claim_ttl", default=_LIMITS.default_claim_ttl, min=60, max=2**31 - 1,
        help="Seconds that a claim lasts when the request does not say.",
    ),
    cfg.IntOpt(
        "default_claim_grace", default=_LIMITS.default_claim_grace, min=60, max=2**31 - 1,
        help="Seconds that claimed messages outlive their claim when the request does not say.",
    ),
    cfg.IntOpt(
        "max_queues_per_page", default=_LIMITS.max_queues_per_page, min=1, max=1000,
        help="Largest page of a list of queues.",
    ),
    cfg.IntOpt(
        "max_messages_per_page", default=_LIMITS.max_messages_per_page, min=1, max=1000,
        help="Largest page of a list of messages.",
    ),
    cfg.IntOpt(
        "max_messages_per_claim_or_pop", default=_LIMITS.max_messages_per_claim_or_pop, min=1, max=1000,
        help="Most messages that one claim or pop takes.",
    ),
    cfg.IntOpt(
        "max_queue_metadata", default=_LIMITS.max_queue_metadata, min=1, max=MAX_POST_SIZE,
        help="Bytes of a queue's metadata at the most.",
    ),
    cfg.IntOpt(
        "max_messages_post_size", default=_LIMITS.max_messages_post_size, min=1, max=MAX_POST_SIZE,
        help="Bytes of a request that posts messages at the most.",
    ),
    cfg.IntOpt(
        "max_message_ttl", default=_LIMITS.max_message_ttl, min=60, max=2**31 - 1,
        help="Longest life of a message, in seconds.",
    ),
    cfg.IntOpt(
        "max_message_delay", default=_LIMITS.max_message_delay, min=0, max=2**31 - 1,
        help="Longest delay of a message, in seconds.",
    ),
    cfg.IntOpt(
        "max_claim_ttl", default=_LIMITS.max_claim_ttl, min=60, max=2**31 - 1,
        help="Longest claim, in seconds.",
    ),
    cfg.IntOpt(
        "max_claim_grace", default=_LIMITS.max_claim_grace, min=60, max=2**31 - 1,
        help="Longest grace of a claim, in seconds.",
    ),
    cfg.BoolOpt(
        "message_delete_with_claim_id", default=_LIMITS.message_delete_with_claim_id,
        help="Demand claim_ids with every request that deletes messages by a list of ids.",
    ),
)

SIGNED_URL_OPTS = (
    cfg.StrOpt("secret_key", secret=True, help="Key that pre-signed requests are signed with. None: there are none."),
)

ENCRYPTION_OPTS = (
    cfg.StrOpt(
        "key", secret=True,
        help="Key for queues with _enable_encrypt_messages: 32 bytes in base64, as made by `openssl rand -base64 32`."
             " None: such queues are refused.",
    ),
    cfg.ListOpt(
        "other_keys", default=[], secret=True,
        help="More keys of that form, separated by commas, that only decrypt: the one before `key` was changed, or the"
             " one that it will be changed to.",
    ),
)

BRIDGING_OPTS = (
    cfg.ListOpt(
        "allow", default=[],
        help="What may be bridged by whom: rules separated by commas, each of four patterns, PROJECT RIGHT VHOST"
             " OBJECT, like `shop read / queue:orders-*, * write / exchange:events`. RIGHT is read, write,"
             " * for both, or declare. Nothing else may be bridged.",
    ),
    cfg.IntOpt(
        "max_body", default=1024 * 1024, min=1024, max=MAX_POST_SIZE,
        help="Bytes of a native message's body, decompressed, at the most; what is larger is put aside as poison. What"
             " was posted through a gateway to a queue of its own is not judged by it.",
    ),
)

QUOTA_OPTS = (
    cfg.IntOpt(
        "requests_per_second", default=0, min=0,
        help="Requests of one project that a worker process serves in a second; more are answered 429. 0: any number.",
    ),
    cfg.IntOpt(
        "bytes_per_second", default=0, min=0,
        help="Bytes of requests that post messages that a worker process takes from one project in a second; more are"
             " answered 429. 0: any number.",
    ),
    cfg.IntOpt(
        "queues", default=0, min=0,
        help="Queues that one project may have, whatever the number of gateways; to make more is answered 403. 0: any"
             " number.",
    ),
)

METRICS_OPTS = (
    cfg.HostAddressOpt(
        "bind",
        help="Address of a listener of its own for /metrics, which has no authentication; /healthcheck is there, too."
             " None: /metrics is served to whoever can reach the service.",
    ),
    cfg.PortOpt("port", default=9888, help="Port of that listener."),
)

AUDIT_OPTS = (
    cfg.StrOpt(
        "file",
        help="Where to write who did what, a JSON object in a line for each call that changes something or is refused."
             " None: nowhere.",
    ),
    cfg.BoolOpt("reads", default=False, help="Write calls that only read there, too."),
)

BASIC_OPTS = (
    cfg.StrOpt(
        "htpasswd_file",
        help="Users for auth_strategy = basic, one in a line: user:bcrypt-hash[:project[:roles]]; the project is the"
             " user's name if it is left out, the roles are `member`, or words like `reader` and `admin` with commas"
             " between them. `htpasswd -B` makes the first two.",
    ),
)


def _options() -> Iterable[tuple[str | None, Sequence[cfg.Opt]]]:
    yield None, DEFAULT_OPTS
    yield "wsgi", WSGI_OPTS
    yield "bridge", _with_driver_options(BRIDGE_OPTS, BRIDGES)
    yield "side_store", _with_driver_options(SIDE_STORE_OPTS, SIDE_STORES)
    yield "transport", TRANSPORT_OPTS
    yield "signed_url", SIGNED_URL_OPTS
    yield "encryption", ENCRYPTION_OPTS
    yield "bridging", BRIDGING_OPTS
    yield "quota", QUOTA_OPTS
    yield "metrics", METRICS_OPTS
    yield "audit", AUDIT_OPTS
    yield "basic", BASIC_OPTS


def _with_driver_options(own: Sequence[cfg.Opt], group: str) -> list[cfg.Opt]:
    """Our options of a section and those of all installed drivers; drivers may share one that is the same."""
    options: dict[str, cfg.Opt] = {}
    for option in itertools.chain(own, *(driver.OPTS for driver in driver_classes(group))):
        options.setdefault(option.name, option)
    return list(options.values())


def list_opts() -> list[tuple[str | None, Sequence[cfg.Opt]]]:
    """All options by section, for oslo.config's sample generator."""
    return list(_options())


def load(args: Sequence[str] = (), config_files: Sequence[str] | None = None) -> Any:
    """The configuration from files, environment (``OS_<SECTION>__<OPTION>``) and command line.

    ``config_files`` None means oslo.config's usual places (~/.marconi, ~, /etc/marconi, /etc). Raises
    oslo_config.cfg.Error with a text for the operator.
    """
    conf = Options()
    log.register_options(conf)
    for group, options in _options():
        conf.register_opts(options, group=group)
    files = None if config_files is None else list(config_files)
    try:
        conf(args=list(args), project="marconi", version=__version__, default_config_files=files)
    except cfg.ConfigFileParseError as error:  # it shows the line, which may be a secret
        raise cfg.ConfigFileParseError(error.config_file, LINE.sub("", str(error.msg))) from None
    except UnicodeDecodeError:
        raise ValueError(f"a configuration file is not UTF-8: {', '.join(files or ['the usual ones'])}") from None
    except OSError as error:
        raise ValueError(f"a configuration file can't be read: {error}") from error
    read_all(conf)
    return conf


def read_all(conf: Any) -> None:
    """Read each option once, so that a value that can't be understood is found now. Raises ValueError or cfg.Error."""
    for section, values in [("DEFAULT", conf), *((name, conf[name]) for name in conf if isinstance(conf[name], Group))]:
        for name in values:
            try:
                values[name]
            except cfg.NoSuchOptError as error:
                raise ValueError(
                    f"[{section}] {name}: a $ refers to another option, and there is none of that name: write $$ for a"
                    " dollar sign"
                ) from error


#: What oslo.config has for a section.
Group = cfg.ConfigOpts.GroupAttr

#: The line in oslo.config's complaint about one, at its end.
LINE = re.compile(r": (['\"]).*\1$", re.DOTALL)


class Options(cfg.ConfigOpts):
    """oslo.config's options; in secret ones a dollar sign is one: they refer to no other option.

    ``$$`` and ``\\$`` are a dollar sign there, as everywhere.
    """

    _reading = threading.local()

    def _do_get(self, name: str, group: Any = None, namespace: Any = None) -> Any:
        outer = getattr(self._reading, "secret", False)
        self._reading.secret = name not in self._groups and self._is_secret(name, group)
        try:
            return super()._do_get(name, group, namespace)
        finally:
            self._reading.secret = outer

    def _is_secret(self, name: str, group: Any) -> bool:
        return bool(self._get_opt_info(name, group)["opt"].secret)

    def _substitute(self, value: Any, group: Any = None, namespace: Any = None) -> Any:
        if isinstance(value, str) and getattr(self._reading, "secret", False):
            return value.replace("\\$", "$").replace("$$", "$")
        return super()._substitute(value, group, namespace)


def all_opts() -> list[tuple[str | None, Sequence[cfg.Opt]]]:
    """Those of the libraries too, as far as they are known before they are used."""
    from oslo_log import _options as of_log
    from oslo_middleware import opts as of_middleware
    from oslo_policy import opts as of_policy

    return [*_options(), *of_log.list_opts(), *of_middleware.list_opts(), *of_policy.list_opts()]
