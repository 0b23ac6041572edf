"""The broker's side of a queue that is being created."""

from __future__ import annotations

from contextlib import suppress

from bridges.bridging import KEY, Source
from bridges.errors import SourceUnreadable
from gateway.core.errors import InvalidInput, NotFound
from gateway.core.foreign.binding import bind
from gateway.core.queues.info import QueueInfo, Reads
from gateway.core.queues.names import delivery_name


def create_on_broker(info: QueueInfo) -> None:
    """Create what a queue needs there; what is somebody else's is left alone. Raises InvalidInput, BridgeError."""
    bridging = info.settings.bridging
    if bridging is not None and bridging.source is not None:
        _create_source(info, bridging.source)
    elif info.is_topic and info.bridge.has_backlog:
        nobody = delivery_name(info.project, info.name, "none")
        info.bridge.add_copy(info.broker, nobody, create=False)
    elif info.reads is Reads.OWN_QUEUE:
        info.pool.bridge.create(info.broker, **info.ordering)


def _create_source(info: QueueInfo, source: Source) -> None:
    """Check what a queue is to read from, and bind it. Raises InvalidInput for what can't be read."""
    try:
        if source.binding is None:
            info.bridge.check_source(info.broker)
            return
        info.bridge.check_exchange(source.binding)
    except SourceUnreadable as error:
        raise InvalidInput(f"Metadata {KEY}: {error}", "Invalid metadata") from error
    info.bridge.create(info.broker, **info.ordering)
    with suppress(NotFound):  # the exchange may come later
        bind(info.bridge, info.broker, source.binding, info.ordering)
