"""The event loop of threads that have many connections."""

from __future__ import annotations

import asyncio
import logging

LOG = logging.getLogger(__name__)


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, which takes less CPU for each event; asyncio's where there is none."""
    try:
        import uvloop
    except ImportError:
        LOG.info("uvloop can't be imported here, so notifications and feeds take about a tenth more CPU")
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
