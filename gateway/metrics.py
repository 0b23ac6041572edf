"""Counters and histograms for Prometheus, and the timing of bridge and side-store calls.

With several worker processes prometheus_client shares the values through files in PROMETHEUS_MULTIPROC_DIR, which
must be set before this module is imported (gateway/serve.py does).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

#: Upper bounds of latency buckets, in seconds: from one side-store call to a timeout.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Histogram(
    "marconi_request_seconds", "Time from a request's dispatch to its answer.", ["route", "method", "status"],
    buckets=BUCKETS,
)
MESSAGES = Counter(
    "marconi_messages", "Messages by what happened to them: posted, claimed, deleted, expired, dead-lettered, poison.",
    ["event"],
)
BRIDGE_CALLS = Histogram(
    "marconi_bridge_call_seconds", "Time of calls to the broker.", ["call", "outcome"], buckets=BUCKETS
)
STORE_CALLS = Histogram(
    "marconi_side_store_call_seconds", "Time of calls to the side-store.", ["call", "outcome"], buckets=BUCKETS
)
OVER_QUOTA = Counter(
    "marconi_over_quota", "Requests refused because of a limit in [quota], by limit: requests, bytes, queues.",
    ["limit"],
)
CONNECTIONS = Gauge(
    "marconi_connections", "Connections that the gateway has open, by peer: broker, side-store.", ["peer"],
    multiprocess_mode="livesum",
)
REFUSED = Counter(
    "marconi_refused_requests", "Requests answered 503 without being served: full, late, by reason.", ["reason"],
)
CLOSED = Counter(
    "marconi_closed_connections",
    "Connections of clients closed early: slow_request, slow_answer, too_many, too_much, by reason.", ["reason"],
)

#: Calls that never leave the process.
LOCAL_CALLS = frozenset({"now", "connections", "close", "at", "own_vhost", "describe"})


def timed(target: Any, histogram: Histogram) -> Any:
    """``target`` with the time of each of its public methods recorded; attributes are passed on."""
    wrapper = type("Timed", (), {})()
    for name in dir(target):
        if name.startswith("_"):
            continue
        value = getattr(target, name)
        if callable(value) and name not in LOCAL_CALLS:
            value = _timed_call(value, histogram.labels(name, "ok"), histogram.labels(name, "error"))
        setattr(wrapper, name, value)
    return wrapper


def _timed_call(call: Callable[..., Any], ok: Histogram, failed: Histogram) -> Callable[..., Any]:
    def timed_call(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            result = call(*args, **kwargs)
        except BaseException:
            failed.observe(time.perf_counter() - start)
            raise
        ok.observe(time.perf_counter() - start)
        return result

    return timed_call


def render() -> tuple[bytes, str]:
    """The metrics of all worker processes in Prometheus' text format, and its content type."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST
