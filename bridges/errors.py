"""What a bridge raises; exceptions of AMQP libraries never leave a driver."""


class BridgeError(Exception):
    """Base of all bridge errors."""


class BridgeUnavailable(BridgeError):
    """The broker did not answer, or refused, within the timeout. Nothing is known to have been enqueued or lost."""


class BrokerBlocked(BridgeUnavailable):
    """The broker has raised a memory or disk alarm and takes no messages; nothing was sent."""


class OutcomeUnknown(BridgeUnavailable):
    """A publish was not confirmed in time: the messages may have been enqueued, or not."""


class PublishBlocked(OutcomeUnknown):
    """The broker has raised an alarm while it was sent messages: it may enqueue them when that is over."""


class BrokerRefused(BridgeUnavailable):
    """The broker answers, and refuses virtual host, credentials or permission; the text tells the operator what to do.

    Nothing is enqueued.
    """


class QueueMissing(BridgeError):
    """The broker has no such queue; none of the messages in question was enqueued."""


class ExchangeMissing(BridgeError):
    """The broker has no such exchange; nothing was published or bound."""


class SourceUnreadable(BridgeError):
    """A queue or an exchange of others is there and is not of a kind that can be read; the text says why."""


class Unroutable(BridgeError):
    """No queue is bound to the exchange for some of the messages; these are not enqueued, others may be."""


class PropertiesTooLarge(BridgeError):
    """The properties of a message don't fit into one frame, as they must; nothing was published."""


class BridgeMisconfigured(BridgeError):
    """The URI or an option of the bridge can't be used; the text says which and why."""
