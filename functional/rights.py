"""A user of the broker with no more rights than a gateway needs that bridges queues, and a second virtual host."""

#: It can declare and delete nothing but objects of the gateway's.
LEAST_USER, LEAST_PASSWORD = "bridged-gateway", "secret"

#: Besides /.
OTHER_VHOST = "other"

#: The user's rights on Qpid Broker-J. The last rule denies what no other allows.
QPID_RULES = (
    "ACL ALLOW guest ALL ALL",
    f"ACL ALLOW {LEAST_USER} ACCESS VIRTUALHOST",
    *(f'ACL ALLOW {LEAST_USER} {do} QUEUE name="marconi{sign}*"' for do in ("CREATE", "DELETE") for sign in ".-"),
    *(f'ACL ALLOW {LEAST_USER} {do} EXCHANGE name="marconi.*"' for do in ("CREATE", "DELETE")),
    f"ACL ALLOW {LEAST_USER} PURGE QUEUE",
    f"ACL ALLOW {LEAST_USER} CONSUME QUEUE",
    f"ACL ALLOW {LEAST_USER} PUBLISH EXCHANGE",
    f"ACL ALLOW {LEAST_USER} BIND EXCHANGE",
    "ACL DENY ALL ALL ALL",
)
