"""``marconi bench``: reads its arguments, measures, and prints the report."""

from __future__ import annotations

import argparse
import base64
import contextlib
import getpass
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from gateway.bench.ceiling import Ceiling, CeilingFailed
from gateway.bench.client import Job
from gateway.bench.cpu import CPUMeter, Unknown, listeners
from gateway.bench.options import PASSWORD
from gateway.bench.plot import plot
from gateway.bench.processes import LoadFailed
from gateway.bench.progress import Progress
from gateway.bench.report import client_cpu, document, notes, ratios_table, results_table, watched_table
from gateway.bench.rounds import BenchFailed, Result, Server, run
from gateway.bench.settings import Settings
from gateway.bench.wire import Address, BadAddress
from gateway.bench.workloads import STANDARD, Workload, delete_queues, list_first, make_queues, mix, named, post

#: What the bare server can do.
BARE: Mapping[Job, Job] = {job: job for job in (post, list_first, make_queues, delete_queues)}

#: A header line by RFC 9110, section 5, without the obsolete bytes.
HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):([\t\x20-\x7e]*)")

#: Name of the bare server in the report.
CEILING = "bare Flask"


def bench(options: argparse.Namespace) -> int:
    """Measure and report. Returns the exit status: 0, 1 if nothing could be measured, 130 after Ctrl-C."""
    progress = Progress(sys.stderr)
    try:
        settings = _settings(options)
        workloads = _workloads(options)
        for file in (options.json, options.plot):
            if file is not None:
                file.touch()  # a file that can't be written must fail now, not after an hour
        with contextlib.ExitStack() as stack:
            servers, remarks = _servers(options, settings, workloads, stack)
            watched = {name: CPUMeter([pid]) for name, pid in options.watch}
            results = run(servers, workloads, settings, progress, watched, options.keep)
    except (
        BadAddress, BenchFailed, CeilingFailed, LoadFailed, Unknown, ValueError, OSError,
    ) as error:
        progress.note(f"marconi: {error}")
        return 1
    except KeyboardInterrupt:
        progress.note("marconi: interrupted")
        return 130
    progress.close()
    pairs = [(servers[0].name, other.name) for other in servers[1:]]
    print(results_table(results))
    if pairs:
        print(f"\nRatios, median of the rounds:\n\n{ratios_table(results, pairs)}")
    if watched:
        print(f"\nCPU ms/msg of other processes:\n\n{watched_table(results)}")
    print(f"\nThe client used at most {client_cpu(results):.2f} cores.")
    for text in [*remarks, *notes(results)]:
        print(text)
    _write(options, results, servers, settings, pairs)
    return 0


def _write(
    options: argparse.Namespace,
    results: Sequence[Result],
    servers: Sequence[Server],
    settings: Settings,
    pairs: Sequence[tuple[str, str]],
) -> None:
    if options.json:
        found = document(results, servers, settings, pairs)
        options.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if options.plot:
        options.plot.write_text(plot(results), encoding="utf-8")


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(**{name: getattr(options, name) for name in Settings.__dataclass_fields__})


def _workloads(options: argparse.Namespace) -> list[Workload]:
    """The workloads that the options ask for. Raises ValueError if the options make no sense."""
    counts = options.producers, options.claimers, options.listers
    if min(*counts, options.batch - 1, (options.connections or 1) - 1) < 0:
        raise ValueError("numbers of connections and messages must not be negative, batch and connections not 0")
    mixed = any(counts)
    names = options.workload or ([] if mixed else STANDARD)
    found = [named(name) for name in names]
    if options.connections:
        found = [workload.with_connections(options.connections) for workload in found]
    return found + ([mix(*counts, options.batch)] if mixed else [])


def _servers(
    options: argparse.Namespace, settings: Settings, workloads: Sequence[Workload], stack: contextlib.ExitStack
) -> tuple[list[Server], list[str]]:
    """The servers, and remarks about them for the report."""
    remarks: list[str] = []

    def server(url: str, name: str | None, headers: Mapping[str, str], pids: Sequence[int] | None) -> Server:
        address = Address.of(url)
        name = name or address.authority + address.prefix
        meter = None
        try:
            meter = CPUMeter(pids or listeners(address))
        except Unknown as error:
            if pids:
                raise
            remarks.append(f"No CPU time of {name}: {error}")
        return Server(name, url, headers, meter)

    headers = _headers(options.header)
    if options.user:
        headers["Authorization"] = _basic(options.user)
    found = [server(options.url, options.name, headers, options.pid)]
    if options.against:
        found.append(
            server(options.against, options.against_name, _headers(options.against_header), options.against_pid)
        )
    if options.ceiling:
        limit = max((workload.batch for workload in workloads if workload.counted == "list"), default=1)
        bare = stack.enter_context(Ceiling(settings.body_size, limit))
        found.append(bare_server(bare))
    if len({each.name for each in found}) < len(found):
        raise ValueError("the servers have the same name; give --name or --against-name")
    return found, remarks


def bare_server(ceiling: Ceiling) -> Server:
    """The bare server in the form that ``run`` measures."""
    try:
        meter = CPUMeter([ceiling.pid])
    except Unknown:  # psutil is missing; a remark already says so
        meter = None
    return Server(CEILING, ceiling.url, meter=meter, dialect=BARE)


def _headers(lines: Sequence[str]) -> dict[str, str]:
    """Header lines as a mapping. Raises ValueError for a malformed line, without showing its value."""
    headers = {}
    for given in lines:
        for line in Path(given[1:]).read_text().splitlines() if given.startswith("@") else [given]:
            found = HEADER.fullmatch(line)
            if not found:
                raise ValueError("a header must be a line like 'Name: value', in ASCII")
            headers[found[1]] = found[2].strip()
    return headers


def _basic(user: str) -> str:
    """Value of the Authorization header by RFC 7617. Asks for the password if the environment does not hold it."""
    password = os.environ.get(PASSWORD)
    if password is None:
        password = getpass.getpass(f"Password of {user}: ")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
