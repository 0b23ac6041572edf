"""What a broker's refusals mean, and what its operator or ours has to do about them."""

from __future__ import annotations

from amqp.exceptions import AccessRefused, NotAllowed

from bridges.errors import BrokerRefused

#: What to do by a part of RabbitMQ's text; the first that fits. The texts of RabbitMQ 3.10 to 4.1.
ADVICE = (
    ("Login was refused", "correct user and password in [bridge] uri, or make the user: rabbitmqctl add_user"),
    ("PLAIN login refused", "correct user and password in [bridge] uri, or make the user: rabbitmqctl add_user"),
    ("vhost", "not found", "correct the virtual host, in [bridge] uri or in a queue's _bridge, or make it:"
     " rabbitmqctl add_vhost"),
    ("access to vhost", "let the user into the virtual host: rabbitmqctl set_permissions --vhost"),
    ("internal exchange", "bridge the queue to another exchange: only the broker itself publishes to internal ones"),
    ("access to", "refused for user", "give the user the permission: rabbitmqctl set_permissions"),
)


def refusal(error: BaseException) -> BrokerRefused | None:
    """What it means if the broker has refused something; None for anything else. kombu may have wrapped it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (AccessRefused, NotAllowed)):
        cause = cause.__cause__
    if cause is None:
        return None
    text = str(cause)
    for *parts, advice in ADVICE:
        if all(part in text for part in parts):
            return BrokerRefused(f"the broker refuses: {text}; {advice}")
    return BrokerRefused(f"the broker refuses: {text}")
