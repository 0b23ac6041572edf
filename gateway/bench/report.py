"""The results of a run: as tables for people and as a document for programs."""

from __future__ import annotations

import os
import platform
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway import __version__
from gateway.bench.rounds import Result, Server, Turn
from gateway.bench.settings import Settings
from gateway.bench.stats import Latency, Spread, ratios

#: Version of the document. Raise it with each change that breaks programs that read it.
FORMAT = 1

#: Share of a core above which a load process may itself have limited the result.
TOO_BUSY = 0.7

HEAD = (
    "work", "server", "req/s", "low–high", "msg/s", "p50 ms", "p95", "p99", "max", "CPU ms/req", "CPU ms/msg", "errors",
    "503",
)
RATIO_HEAD = (
    "work", "servers", "req/s", "low–high", "msg/s", "low–high", "CPU/req", "low–high", "p99", "low–high",
)

NOTHING = "–"


@dataclass(frozen=True)
class Summary:
    """All turns of one server and workload. Rates are per second, CPU is in milliseconds; None means unknown."""

    rate: Spread
    message_rate: Spread
    latency: Latency | None
    cpu_per_request: Spread | None
    cpu_per_message: Spread | None
    errors: Counter[str]

    @property
    def unavailable(self) -> int:
        """Number of 503 answers."""
        return self.errors["503"]

    @property
    def other_errors(self) -> int:
        """Number of all other errors."""
        return self.errors.total() - self.unavailable


def cpu_per_request(turn: Turn) -> float | None:
    """Milliseconds of the server's CPU."""
    return None if turn.cpu is None or not turn.requests else 1000 * turn.cpu / turn.requests


def cpu_per_message(turn: Turn, kind: str) -> float | None:
    """Milliseconds of the server's CPU."""
    messages = turn.messages(kind)
    return None if turn.cpu is None or not messages else 1000 * turn.cpu / messages


def total_cpu_per_message(turn: Turn, kind: str) -> float | None:
    """Milliseconds of CPU of the server and of all processes that are watched."""
    messages = turn.messages(kind)
    return None if turn.cpu is None or not messages else 1000 * (turn.cpu + sum(turn.watched.values())) / messages


def latency(turns: Sequence[Turn], kind: str | None = None) -> Latency | None:
    """Latency of the requests of a kind, or of all kinds; None if there were none."""
    seconds = array("d")
    for turn in turns:
        for name, operation in turn.operations.items():
            if kind in (None, name):
                seconds.extend(operation.seconds)
    return Latency.of(seconds)


def errors(turns: Sequence[Turn]) -> Counter[str]:
    """Number of errors by status, including the warm-up."""
    return sum((operation.all_errors for turn in turns for operation in turn.operations.values()), Counter())


def summary(turns: Sequence[Turn], counted: str) -> Summary:
    """The summary of at least one turn. ``counted``: kind of request whose messages are the throughput."""
    return Summary(
        Spread.of([turn.rate for turn in turns]),
        Spread.of([turn.messages(counted) / turn.seconds for turn in turns]),
        latency(turns),
        _spread([cpu_per_request(turn) for turn in turns]),
        _spread([cpu_per_message(turn, counted) for turn in turns]),
        errors(turns),
    )


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None


@dataclass(frozen=True)
class Comparison:
    """One server relative to another. Above 1 means more requests, more CPU or longer waits."""

    rate: Spread | None
    message_rate: Spread | None
    cpu_per_request: Spread | None
    p99: Spread | None
    total_cpu_per_message: Spread | None


def compare(result: Result, ours: str, theirs: str) -> Comparison:
    """Compare two servers round by round."""
    counted = result.workload.counted
    a, b = result.turns[ours], result.turns[theirs]

    def total(turn: Turn) -> float | None:
        return total_cpu_per_message(turn, counted)

    def p99(turn: Turn) -> float | None:
        found = latency([turn])
        return found.p99 if found else None

    return Comparison(
        ratios([turn.rate for turn in a], [turn.rate for turn in b]),
        ratios([turn.messages(counted) for turn in a], [turn.messages(counted) for turn in b]),
        ratios([cpu_per_request(turn) for turn in a], [cpu_per_request(turn) for turn in b]),
        ratios([p99(turn) for turn in a], [p99(turn) for turn in b]),
        ratios([total(turn) for turn in a], [total(turn) for turn in b]),
    )


# -- table ----------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads well as plain text. The first two columns are left-aligned."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ("-" if column < 2 else ":") for column, width in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def results_table(results: Sequence[Result]) -> str:
    """One row per server and workload, and one per kind of request if a workload has several."""
    rows = []
    for result in results:
        for name, turns in result.turns.items():
            found = summary(turns, result.workload.counted)
            rows.append((
                result.workload.name, name, _rate(found.rate.median), _range(found.rate, _rate),
                _rate(found.message_rate.median), *_latency(found.latency),
                _median(found.cpu_per_request), _median(found.cpu_per_message),
                f"{found.other_errors:,}", f"{found.unavailable:,}",
            ))
            kinds = sorted({kind for turn in turns for kind in turn.operations})
            rows.extend(_kind_row(kind, turns) for kind in kinds if len(kinds) > 1)
    return table(HEAD, rows)


def _kind_row(kind: str, turns: Sequence[Turn]) -> tuple[str, ...]:
    found = [turn.operations[kind] for turn in turns if kind in turn.operations]
    wrong = sum((operation.all_errors for operation in found), Counter())
    rate = Spread.of([turn.requests_of(kind) / turn.seconds for turn in turns])
    messages = Spread.of([turn.messages(kind) / turn.seconds for turn in turns])
    return (
        "", f"  {kind}", _rate(rate.median), _range(rate, _rate), _rate(messages.median),
        *_latency(latency(turns, kind)), "", "", f"{wrong.total() - wrong['503']:,}", f"{wrong['503']:,}",
    )


def ratios_table(results: Sequence[Result], pairs: Sequence[tuple[str, str]]) -> str:
    """One row per workload and pair of servers, if both have run the workload."""
    rows = []
    for result in results:
        for ours, theirs in pairs:
            if ours in result.turns and theirs in result.turns:
                found = compare(result, ours, theirs)
                spreads = found.rate, found.message_rate, found.cpu_per_request, found.p99
                cells = [cell for spread in spreads for cell in _ratio(spread)]
                rows.append((result.workload.name, f"{ours} / {theirs}", *cells))
    return table(RATIO_HEAD, rows) if rows else ""


def watched_table(results: Sequence[Result]) -> str:
    """CPU milliseconds per message of other processes, like the broker, and of all with the server's own.

    Empty if none were watched.
    """
    all_turns = [turn for result in results for turns in result.turns.values() for turn in turns]
    names = sorted({name for turn in all_turns for name in turn.watched})
    rows = []
    for result in results:
        for server, turns in result.turns.items():
            found = [_spread([_other_cpu(turn, name, result.workload.counted) for turn in turns]) for name in names]
            found.append(_spread([total_cpu_per_message(turn, result.workload.counted) for turn in turns]))
            rows.append((result.workload.name, server, *map(_median, found)))
    return table(("work", "server", *names, "all, with the server's own"), rows) if names else ""


def _other_cpu(turn: Turn, name: str, kind: str) -> float | None:
    messages = turn.messages(kind)
    return 1000 * turn.watched[name] / messages if messages else None


def notes(results: Sequence[Result]) -> list[str]:
    """Warnings for the reader of the tables: errors, and load processes that were too busy."""
    said = []
    for result in results:
        for name, turns in result.turns.items():
            where = f"{result.workload.name}, {name}"
            if found := errors(turns):
                by_status = ", ".join(f"{status}: {count:,}" for status, count in sorted(found.items()))
                first = next(turn.first_error for turn in turns if turn.first_error)
                said.append(f"{where}: errors, those of the warm-up included: {by_status}; the first: {first}")
            busy = max(turn.client_busy for turn in turns)
            if busy > TOO_BUSY:
                said.append(f"{where}: the client was busy for {busy:.0%} of the time: try more --processes")
    return said


def client_cpu(results: Sequence[Result]) -> float:
    """Cores that all load processes together have used, in the turn with the highest use."""
    turns = [turn for result in results for turns in result.turns.values() for turn in turns]
    return max(turn.client_cpu / turn.seconds for turn in turns)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _range(spread: Spread, form: Any) -> str:
    return f"{form(spread.low)}–{form(spread.high)}"


def _latency(found: Latency | None) -> tuple[str, ...]:
    return tuple(f"{value:.1f}" for value in asdict(found).values()) if found else (NOTHING,) * 4


def _median(spread: Spread | None) -> str:
    return NOTHING if spread is None else f"{spread.median:.3f}"


def _ratio(spread: Spread | None) -> tuple[str, str]:
    if spread is None:
        return NOTHING, NOTHING
    return f"{spread.median:.2f}×", f"{spread.low:.2f}–{spread.high:.2f}"


# -- document -------------------------------------------------------------------------------------------------------


def document(
    results: Sequence[Result], servers: Sequence[Server], settings: Settings, pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """All results but the latencies of single requests. Without headers, because they may hold credentials."""
    return {
        "format": FORMAT,
        "marconi": __version__,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "settings": asdict(settings),
        "servers": [{"name": server.name, "url": server.url} for server in servers],
        "workloads": [_workload(result, pairs) for result in results],
    }


def _workload(result: Result, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    workload = result.workload
    return {
        "name": workload.name,
        "connections": workload.connections,
        "batch": workload.batch,
        "queues": list(result.queues),
        "servers": {
            name: _server(turns, workload.counted) | {"prepared_messages": result.prepared[name]}
            for name, turns in result.turns.items()
        },
        "ratios": [
            {"of": ours, "to": theirs} | asdict(compare(result, ours, theirs))
            for ours, theirs in pairs if ours in result.turns and theirs in result.turns
        ],
    }


def _server(turns: Sequence[Turn], counted: str) -> dict[str, Any]:
    found = summary(turns, counted)
    return {
        "requests_per_second": asdict(found.rate),
        "messages_per_second": asdict(found.message_rate),
        "milliseconds": asdict(found.latency) if found.latency else None,
        "cpu_milliseconds_per_request": asdict(found.cpu_per_request) if found.cpu_per_request else None,
        "cpu_milliseconds_per_message": asdict(found.cpu_per_message) if found.cpu_per_message else None,
        "errors": dict(found.errors),
        "rounds": [_turn(turn, counted) for turn in turns],
    }


def _turn(turn: Turn, counted: str) -> dict[str, Any]:
    return {
        "seconds": turn.seconds,
        "requests": turn.requests,
        "messages": turn.messages(counted),
        "server_cpu_seconds": turn.cpu,
        "other_cpu_seconds": dict(turn.watched),
        "client_cpu_seconds": turn.client_cpu,
        "client_busiest_process": turn.client_busy,
        "reconnects": turn.reconnects,
        "operations": {kind: _operation(turn, kind) for kind in sorted(turn.operations)},
    }


def _operation(turn: Turn, kind: str) -> dict[str, Any]:
    operation = turn.operations[kind]
    found: Mapping[str, Any] | None = asdict(waited) if (waited := Latency.of(operation.seconds)) else None
    return {
        "requests": len(operation.seconds),
        "messages": operation.messages,
        "milliseconds": found,
        "statuses": dict(operation.statuses),
        "errors": dict(operation.errors),
        "with_warm_up": {
            "messages": operation.all_messages,
            "statuses": dict(operation.all_statuses),
            "errors": dict(operation.all_errors),
        },
    }
