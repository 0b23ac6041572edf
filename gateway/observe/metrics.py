"""Counters and histograms for Prometheus, and the timing of bridge and side-store calls.

Workers of `marconi serve` have their values in memory that they share (gateway/observe/shared_values.py). Under other
servers that fork, prometheus_client shares them through files, if the operator sets PROMETHEUS_MULTIPROC_DIR.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
    values,
)

from gateway.observe.beside import failed
from gateway.observe.fast_paths import FAST_PATHS
from gateway.observe.shared_values import Memory, Shared, Value

#: Upper bounds of latency buckets, in seconds: from one side-store call to a timeout.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Histogram(
    "marconi_request_seconds",
    "Time from a request's dispatch to its answer, without that in which it waited for messages.",
    ["route", "method", "status"],
    buckets=BUCKETS,
)
MESSAGES = Counter(
    "marconi_messages", "Messages by what happened to them: posted, claimed, deleted, expired, dead-lettered, poison.",
    ["event"],
)
BRIDGE_CALLS = Histogram(
    "marconi_bridge_call_seconds", "Time of calls to a pool's broker.", ["pool", "call", "outcome"], buckets=BUCKETS
)
STORE_CALLS = Histogram(
    "marconi_side_store_call_seconds", "Time of calls to a pool's side-store.", ["pool", "call", "outcome"],
    buckets=BUCKETS,
)
MOVED = Counter(
    "marconi_moved_messages",
    "Messages that have moved out of the broker or the side-store of one pool while their queue moves to another.",
    ["source", "target"],
)
UNOPENED = Counter(
    "marconi_unopened_messages",
    "Times that a call met an encrypted message that this gateway can't decrypt, by reason: no_key (another gateway may"
    " have it), damaged.", ["reason"],
)
OVER_QUOTA = Counter(
    "marconi_over_quota",
    "Requests refused because of a limit in [quota], or of that of keys, by limit: requests, bytes, queues, keys,"
    " waiting.",
    ["limit"],
)
SUPPRESSED = Counter(
    "marconi_suppressed_duplicates",
    "Messages that were posted again and not enqueued again, by what they were recognized by: key, dedup_id.", ["by"],
)
WAITING_REQUESTS = Gauge(
    "marconi_waiting_requests", "Requests that wait for messages without a thread.", multiprocess_mode="livesum",
)
WAKES = Counter(
    "marconi_wakes", "Times that a waiting request looked again, by what it found: found, nothing.", ["outcome"],
)
CONNECTIONS = Gauge(
    "marconi_connections", "Connections that the gateway has open, by pool and peer: broker, side-store.",
    ["pool", "peer"],
    multiprocess_mode="livesum",
)
REFUSED = Counter(
    "marconi_refused_requests", "Requests answered 503 without being served: full, late, by reason.", ["reason"],
)
CLOSED = Counter(
    "marconi_closed_connections",
    "Connections of clients closed early: slow_request, slow_answer, too_many, too_much, by reason.", ["reason"],
)
DELIVERIES = Counter(
    "marconi_deliveries",
    "Notifications by what happened to them: delivered, failed, dead, rest, stop count attempts; filtered, buried count"
    " messages that are not for their receiver and those that were put away.", ["scheme", "outcome"],
)
DELIVERY_SECONDS = Histogram(
    "marconi_delivery_seconds", "Time of attempts to deliver a notification.", ["scheme"],
    buckets=(*BUCKETS, 20.0, 30.0, 60.0),
)
DELIVERY_LAG = Histogram(
    "marconi_delivery_lag_seconds", "Time from the post of a message to the first attempt to deliver it.",
    buckets=(*BUCKETS, 30.0, 60.0, 300.0, 1800.0, 3600.0),
)
NOTIFICATIONS = Gauge(
    "marconi_notifications", "Notifications that wait for the subscriptions that are served, by state: pending, dead.",
    ["state"], multiprocess_mode="livesum",
)
SUBSCRIPTIONS = Gauge(
    "marconi_subscriptions",
    "Subscriptions that are served, by state: unconfirmed, active, failing, resting, paused, disabled, unsubscribed.",
    ["state"], multiprocess_mode="livesum",
)
WEBSOCKETS = Gauge("marconi_websockets", "WebSocket connections that are open.", multiprocess_mode="livesum")
WEBSOCKETS_CLOSED = Counter(
    "marconi_websockets_closed",
    "WebSocket connections that have ended, by the close code that they were given, 1006 for none; silent counts those"
    " whose client did not answer pings.", ["code"],
)
BLOCKED_GROUPS = Gauge(
    "marconi_fifo_blocked_groups",
    "Groups of FIFO queues with messages that wait for a claim or a delay to end, as this gateway saw them in the last"
    " minute.",
    multiprocess_mode="livesum",
)
BLOCKED_SECONDS = Gauge(
    "marconi_fifo_oldest_blocked_seconds", "How long the first of these groups has been waiting.",
    multiprocess_mode="livemax",
)
FEEDS = Gauge("marconi_feeds", "Live feeds that are open.", multiprocess_mode="livesum")
FEED_EVENTS = Counter("marconi_feed_events", "Messages that live feeds have sent; each feed counts its own.")
FEED_BYTES = Counter("marconi_feed_bytes", "Bytes that live feeds have sent.")
FEED_ENDS = Counter(
    "marconi_feed_ends",
    "Live feeds that have ended, by reason: expired, deleted, unavailable, refused, draining; client, slow and too_much"
    " have not been told.",
    ["reason"],
)
FAST_PATH_FALLBACKS = Counter(
    "marconi_fast_path_fallbacks",
    "Times that a fast path which is switched on could not be used, by the option that switches it off.", ["option"],
)

#: Calls that never leave the process.
LOCAL_CALLS = frozenset({
    "now", "connections", "consume", "fallbacks", "close", "at", "own_vhost", "describe", "parse_bridging",
})


class Guard(Protocol):
    """Decides whether a call may be made; see gateway.core.pools.guard."""

    is_on: bool

    def run(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Make the call, or raise instead."""


def timed(
    target: Any, histogram: Histogram, pool: str, guard: Guard | None = None, parts: Sequence[str] = ()
) -> Any:
    """``target`` with the time of each of its public methods recorded; attributes are passed on.

    ``pool``: the name of the pool that it belongs to. ``guard`` watches the calls. ``parts``: names of attributes whose
    methods are recorded too, under their own names.
    """
    wrapper = type("Timed", (), {})()
    for name in dir(target):
        if name.startswith("_"):
            continue
        value = getattr(target, name)
        if name in parts:
            value = timed(value, histogram, pool, guard)
        elif callable(value) and name not in LOCAL_CALLS:
            value = _timed_call(value, guard, histogram.labels(pool, name, "ok"), histogram.labels(pool, name, "error"))
        setattr(wrapper, name, value)
    return wrapper


def _timed_call(
    call: Callable[..., Any], guard: Guard | None, ok: Histogram, failed: Histogram
) -> Callable[..., Any]:
    def timed_call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            result = guard.run(call, args, kwargs) if guard is not None and guard.is_on else call(*args, **kwargs)
        except BaseException:
            failed.observe(time.perf_counter() - start)
            raise
        ok.observe(time.perf_counter() - start)
        return result

    return timed_call


def never_failing(kind: Any) -> Any:
    """A subclass of prometheus_client's values in files, in which no call fails if a file does.

    This process' own count is kept in memory, too; it is shown if the count of all processes can't be read.
    """

    class NeverFailing(kind):
        def __init__(self, *args: Any, **kwargs: Any):
            self._own = values.MutexValue(*args, **kwargs)
            try:
                super().__init__(*args, **kwargs)
            except Exception as error:
                failed("metrics", error)

        def inc(self, amount: float) -> None:
            self._own.inc(amount)
            try:
                super().inc(amount)
            except Exception as error:
                failed("metrics", error)

        def set(self, value: float, timestamp: float | None = None) -> None:
            self._own.set(value)
            try:
                super().set(value, timestamp)
            except Exception as error:
                failed("metrics", error)

        def get(self) -> float:
            return float(self._own.get())

    return NeverFailing


# As prometheus_client reads the variable: when it is imported, and in either case.
if values.ValueClass._multiprocess:
    values.ValueClass = never_failing(values.ValueClass)

#: All metrics above, by name.
_METRICS = {
    metric._name: metric for metric in list(globals().values()) if isinstance(metric, Counter | Gauge | Histogram)
}

_shared: Shared | None = None


def share(memory: Memory, worker: int) -> None:
    """Have all processes count together. ``worker``: this one's number. Call it before anything is counted."""
    global _shared
    _shared = Shared(memory, worker)
    values.ValueClass = type("SharedValue", (Value,), {"shared": _shared})
    for metric in _METRICS.values():
        if not metric._labelnames:  # it has had a value of its own since it was imported
            metric._metric_init()
    disable_created_metrics()  # when one of them began to count says nothing of all
    _show_fast_paths()  # now, while there is room: that there is none is counted here, too


def _show_fast_paths() -> None:
    """Show zeros where nothing has fallen back."""
    for option in FAST_PATHS:
        FAST_PATH_FALLBACKS.labels(option)


def render() -> tuple[bytes, str]:
    """The metrics of all worker processes in Prometheus' text format, and its content type."""
    return generate_latest(_registry()), CONTENT_TYPE_LATEST


def _registry() -> CollectorRegistry:
    """What to show: if that of all workers can't be read, this process'."""
    registry = CollectorRegistry()
    _show_fast_paths()
    if _shared is not None:
        for name, labels in _shared.look():
            _METRICS[name].labels(**{label: labels[label] for label in _METRICS[name]._labelnames})
        for metric in _METRICS.values():
            registry.register(metric)
        return registry
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        try:
            multiprocess.MultiProcessCollector(registry)
            for _ in registry.collect():
                pass
            return registry
        except Exception as error:
            failed("metrics", error)
    return REGISTRY
