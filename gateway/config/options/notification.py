"""Options of notifications: who may subscribe, where deliveries may go, and when they are tried again."""

from __future__ import annotations

from oslo_config import cfg

from gateway.config.notifications import Notifications

_DEFAULTS = Notifications()

NOTIFICATION_OPTS = (
    cfg.BoolOpt(
        "deliver", default=True,
        help="Deliver notifications in the processes of `marconi serve`. False: leave that to `marconi notify`.",
    ),
    cfg.BoolOpt(
        "require_confirmation", default=_DEFAULTS.require_confirmation,
        help="Deliver to a new subscriber only after it has confirmed the subscription. Recommended where projects that"
             " don't trust each other share the service. Needs [signed_url] secret_key.",
    ),
    cfg.StrOpt(
        "public_url",
        help="URL of this service as subscribers reach it, without /v2, as in https://messaging.example.org. Requests"
             " to confirm a subscription tell it. Unset: with auth_strategy = keystone that of the public endpoint of"
             " type messaging in the catalogue; otherwise they tell the path alone.",
    ),
    cfg.StrOpt(
        "origin", regex=r"\A[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\Z",
        help="DNS name by which this service asks receivers of CloudEvents to agree to deliveries, as in"
             " messaging.example.org (the subscription option _confirmation). Unset: the host of public_url.",
    ),
    cfg.IntOpt(
        "max_notifier_workers", default=10, min=1, max=512,
        help="Number of threads in each process that read and settle what is to be delivered.",
    ),
    cfg.FloatOpt(
        "connect_timeout", default=5.0, min=0.1, max=60.0,
        help="Time in seconds to connect to a subscriber, the resolution of its name and TLS included.",
    ),
    cfg.FloatOpt(
        "request_timeout", default=15.0, min=0.1, max=300.0,
        help="Time in seconds for all of an attempt, from the resolution of the name to the last byte of the answer.",
    ),
    cfg.IntOpt(
        "max_response_size", default=65536, min=0, max=1024 * 1024,
        help="Maximum number of bytes that are read of a subscriber's answer. The rest does not matter, and the"
             " connection is closed.",
    ),
    cfg.ListOpt(
        "retry_schedule", item_type=cfg.types.Integer(min=0, max=31536000),
        default=list(_DEFAULTS.retry_schedule),
        help="Seconds before each retry of a failed delivery, where neither the queue nor the subscription has a"
             " _retry_policy. Retries end with the message's TTL.",
    ),
    cfg.IntOpt(
        "max_delivery_age", default=345600, min=1, max=31536000,
        help="Seconds after its post from which on a message is not tried again.",
    ),
    cfg.IntOpt(
        "retry_after_max", default=3600, min=0, max=86400,
        help="Maximum time in seconds for which a subscriber can put off all deliveries by Retry-After.",
    ),
    cfg.IntOpt(
        "max_in_flight", default=_DEFAULTS.max_in_flight, min=1, max=1000,
        help="Maximum number of deliveries to one subscription that are under way at the same time, counted over all"
             " gateways.",
    ),
    cfg.FloatOpt(
        "rate_limit", default=0.0, min=0.0, max=100000.0,
        help="Maximum number of deliveries to one subscription per second, counted over all gateways. 0: no limit.",
    ),
    cfg.IntOpt(
        "max_pending", default=100000, min=1, max=100000000,
        help="Maximum number of messages that wait for one subscription. The oldest ones beyond that become dead"
             " letters, so that a subscriber that is down does not fill the broker's disk.",
    ),
    cfg.IntOpt(
        "disable_after", default=432000, min=60, max=31536000,
        help="Seconds without a success after which a failing subscription is disabled, if at least 10 messages on at"
             " least two days have failed.",
    ),
    cfg.IntOpt(
        "dead_letter_ttl", default=_DEFAULTS.dead_letter_ttl, min=60, max=31536000,
        help="Time in seconds for which messages that could not be delivered are kept.",
    ),
    cfg.IntOpt(
        "attempt_log", default=100, min=0, max=1000,
        help="Number of attempts that are kept for each subscription, for its owner to look at.",
    ),
    cfg.ListOpt(
        "allowed_networks", default=[],
        help="Networks that deliveries may go to although they are not public, separated by commas: CIDR or CIDR:port,"
             " as in 10.1.0.0/16, 10.1.2.3/32:8080, [fd00::/8]:8080.",
    ),
    cfg.ListOpt(
        "trust_networks", default=[],
        help="Networks that deliveries with a token (trust+http: and trust+https:) may go to, in the form of"
             " allowed_networks, such as that of the cloud's own services. Without TLS (trust+http:) they may go"
             " nowhere else.",
    ),
    cfg.ListOpt(
        "denied_networks", default=[],
        help="Networks that no delivery may go to, in the form of allowed_networks. It goes before all other rules.",
    ),
    cfg.StrOpt(
        "allowed_ports", default=_DEFAULTS.allowed_ports,
        help="Ports that deliveries may go to: numbers and ranges, separated by commas.",
    ),
    cfg.BoolOpt("allow_http", default=True, help="Allow subscribers to have URLs that begin with http:, without TLS."),
    cfg.StrOpt(
        "proxy",
        help="URL of an HTTP proxy that all deliveries go through. It has to filter addresses then: the names of"
             " subscribers are not resolved here.",
    ),
    cfg.StrOpt(
        "ca_file",
        help="File of certificate authorities to trust for subscribers and the SMTP server. Unset: the system's.",
    ),
)
