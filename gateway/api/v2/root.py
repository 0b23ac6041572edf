"""The service itself: the home document and ping."""

from __future__ import annotations

from gateway.web.context import Context
from gateway.web.operations import Operation


def home(context: Context) -> tuple[Operation, ...]:
    """The operations that the home document shows."""
    return context.service.operations


def ping(context: Context) -> None:
    """Raises an error of the default pool's broker or side-store, which has the catalogue, if one does not answer.

    Other pools do not count: a load balancer must not give up all gateways because of one of them.
    """
    context.core.pool.bridge.ping()
    context.core.pool.store.ping()
