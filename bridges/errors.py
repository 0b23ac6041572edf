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
    """The broker answers, and refuses what was asked: somebody has to change something before it will not.

    The text has the broker's reason, and what the operator should do if that is known. Nothing is enqueued.
    """


class LimitReached(BrokerRefused):
    """A limit of the broker on queues, connections or channels is reached; it may help to try again much later."""


class ObjectLocked(BrokerRefused):
    """A queue belongs to one connection or consumer of somebody else, as long as that lives."""


class QueueFull(BridgeUnavailable):
    """The broker did not take some messages (basic.nack): a queue that they go to is full, or fails.

    With ``partly`` some messages, or other queues than the full one, may have been enqueued.
    """

    def __init__(self, description: str, partly: bool = True):
        super().__init__(description)
        self.partly = partly


class MessageTooLarge(BridgeError):
    """A message is larger than the broker takes, ``limit`` bytes if that is known; nothing was enqueued.

    With ``partly`` messages in front of it may have been: where the broker's limit could not be asked for before.
    """

    def __init__(self, description: str, limit: int | None = None, partly: bool = False):
        super().__init__(description)
        self.limit = limit
        self.partly = partly


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
