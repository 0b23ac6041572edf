"""Options of the HTTP server: where it listens, how much it takes on, and whom it believes."""

from __future__ import annotations

from oslo_config import cfg

from gateway.config.address import Address
from gateway.config.path_prefix import PathPrefix

WSGI_OPTS = (
    cfg.Opt(
        "bind", type=Address(), default="127.0.0.1",
        help="Address to listen on, or unix: and the absolute path of a Unix socket, as in"
             " unix:/run/marconi/marconi.sock.",
    ),
    cfg.PortOpt("port", default=8888, help="TCP port to listen on."),
    cfg.Opt(
        "prefix", type=PathPrefix(), default="",
        help="Path in front of /v2, like /messaging, if a proxy serves the gateway under a path of its own. All links"
             " in answers begin with it. The proxy may remove it from the requests or leave it.",
    ),
    cfg.BoolOpt(
        "fast_dispatch", default=True,
        help="Answer calls of the API without Flask's contexts, sessions, signals and hooks, which would add about 0.1"
             " ms of CPU time to each call. Set it to false if hooks of a blueprint must see these calls too.",
    ),
    cfg.StrOpt(
        "socket_mode", default="660", regex="^0?[0-7]{3}$",
        help="Permissions of the Unix socket, in octal. Connecting needs the permission to write.",
    ),
    cfg.IntOpt(
        "threads", default=16, min=1, max=512,
        help="Number of requests that one worker process serves at the same time.",
    ),
    cfg.IntOpt(
        "workers", default=1, min=1, max=256, help="Number of worker processes that share the listening socket."
    ),
    cfg.IntOpt(
        "max_queued_requests", default=256, min=1, max=10000,
        help="Maximum number of requests that wait for a thread of one worker process. Further requests are answered"
             " 503 at once.",
    ),
    cfg.FloatOpt(
        "max_queue_time", default=5.0, min=0.1, max=60.0,
        help="Maximum time in seconds that a request waits for a thread. After that it is answered 503 without being"
             " served.",
    ),
    cfg.FloatOpt(
        "client_timeout", default=60.0, min=1.0, max=3600.0,
        help="Time in seconds that a client has to send a whole request, and again to receive the whole answer. After"
             " that the connection is closed, even if data still flows, so that slow clients can't hold resources.",
    ),
    cfg.IntOpt(
        "drain_timeout", default=10, min=0, max=600,
        help="Time in seconds that running requests have to finish after SIGTERM.",
    ),
    cfg.BoolOpt(
        "reuse_port", default=False,
        help="Let other gateways with this option listen on the same address and port, so that a new one can start"
             " before the old one stops. Linux only.",
    ),
    cfg.BoolOpt(
        "pin_workers", default=True,
        help="Keep each worker process on one CPU at a time, because Python then needs less CPU time. A worker moves to"
             " another CPU when other processes need its own. Linux only. False: the kernel decides.",
    ),
    cfg.BoolOpt(
        "direct_syscalls", default=True,
        help="Send and receive on client connections with the C library's calls, which keep Python's global lock, so"
             " that threads switch less often. False: with Python's own calls.",
    ),
    cfg.StrOpt(
        "trusted_proxy",
        help="IP address of the proxy in front of the gateway, localhost for a proxy that connects to the Unix socket,"
             " or * for any client. X-Forwarded-For and X-Forwarded-Proto are believed only if they come from there."
             " Unset: never.",
    ),
    cfg.IntOpt(
        "trusted_proxy_count", default=1, min=1, max=10,
        help="Number of proxies in a row in front of the gateway. Each of them must append to X-Forwarded-For.",
    ),
    cfg.BoolOpt(
        "allow_unauthenticated_remote", default=False,
        help="Allow auth_strategy = noauth on an address that other machines can reach. Everyone who can reach it can"
             " then use every project.",
    ),
)

METRICS_OPTS = (
    cfg.HostAddressOpt(
        "bind",
        help="Address of a separate listener for /metrics and /healthcheck, without authentication. Unset: there is no"
             " such listener, and everyone who can reach the service can read /metrics there.",
    ),
    cfg.PortOpt("port", default=9888, help="TCP port of that listener."),
    cfg.BoolOpt(
        "shared_memory", default=True,
        help="With several workers, keep metrics in memory that all workers share, so that each of them shows the sums."
             " False: each worker counts alone, or through files if PROMETHEUS_MULTIPROC_DIR is set.",
    ),
)
