"""A channel whose commands do not wait: what the broker answers is told when it is read.

py-amqp waits for each answer. A broker that is slow to answer for one queue would so hold up all other queues of the
connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import amqp
from amqp import spec
from amqp.exceptions import ChannelError, error_for_code

if TYPE_CHECKING:
    from bridges.amqp.consuming.queue_consumer import QueueConsumer

#: Formats of arguments, as py-amqp writes them (AMQP 0-9-1, 1.7.2.1, 1.8.3.1, 1.8.3.3, 1.8.3.5 and 1.5.2.5).
_DECLARE, _QOS, _CONSUME, _CANCEL, _CLOSE = "BsbbbbbF", "lBb", "BssbbbbF", "sb", "BsBB"

#: Reply code for a channel that its client closes as it is not needed any more.
_OK = 200


class Channel(amqp.Channel):
    """``closed`` is called when the broker has closed the channel, with the reason. It is not opened again then."""

    def __init__(self, connection: amqp.Connection, closed: Callable[[Channel, Exception], None]):
        super().__init__(connection, auto_decode=False)
        self._closed = closed
        #: Called with what the broker says of a queue that it was asked for: how many consumers it has.
        self.found: Callable[[int], None] | None = None
        #: All consumers that are here, and those that the broker has not confirmed yet, in the order of their start.
        self.consumers: set[QueueConsumer] = set()
        self.starting: list[QueueConsumer] = []
        self.open()

    def _setup_listeners(self) -> None:
        super()._setup_listeners()
        self._callbacks[spec.Queue.DeclareOk] = self._on_declare_ok
        self._callbacks[spec.Basic.ConsumeOk] = self._on_consume_ok

    # -- commands -----------------------------------------------------------------------------------------------

    def ask(self, queue: str) -> None:
        """Is there such a queue? ``found`` is called if there is; else the broker closes the channel."""
        self.send_method(spec.Queue.Declare, _DECLARE, (0, queue, True, False, False, False, False, {}))

    def start(self, consumer: QueueConsumer, take: Callable[[amqp.Message], Any], ended: Callable[[str], Any]) -> None:
        """Have the broker send up to ``consumer.most`` messages; ``ended``: the broker has cancelled the consumer."""
        self.consumers.add(consumer)
        self.starting.append(consumer)
        self.callbacks[consumer.tag] = take
        self.cancel_callbacks[consumer.tag] = ended
        self.send_method(spec.Basic.Qos, _QOS, (0, consumer.most, False))
        self.send_method(
            spec.Basic.Consume, _CONSUME, (0, consumer.queue, consumer.tag, False, False, False, False, {})
        )

    def cancel(self, consumer: QueueConsumer) -> None:
        """End a consumer. What is on its way already still comes to its ``take``, until the broker has answered."""
        self.send_method(spec.Basic.Cancel, _CANCEL, (consumer.tag, False))

    def leave(self) -> None:
        """Close it; the broker gives back what is unsettled, in its place."""
        self.is_closing = True
        self.send_method(spec.Channel.Close, _CLOSE, (_OK, "", 0, 0))

    # -- answers ------------------------------------------------------------------------------------------------

    def dispatch_method(self, method: Any, payload: Any, content: Any) -> None:
        if self.is_closing and method not in (spec.Channel.Close, spec.Channel.CloseOk):
            return  # py-amqp would log each message
        super().dispatch_method(method, payload, content)

    def _on_declare_ok(self, queue: str, messages: int, consumers: int) -> None:
        if self.found is not None:
            self.found(consumers)

    def _on_consume_ok(self, tag: str) -> None:
        if self.starting and self.starting[0].tag == tag:
            self.starting.pop(0)

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        """py-amqp's would open it again and raise, without saying which channel it was."""
        self.send_method(spec.Channel.CloseOk)
        self.collect()
        self._closed(self, error_for_code(code, text, (class_id, method_id), ChannelError))
