"""How long calls take while a pool of others is paused: `python -m functional.pools.paused`.

Four pools have the same number of queues: two RabbitMQ nodes, the side-store of the service, and another one. Clients
post to, claim from and delete in queues of all of them. One RabbitMQ is stopped by SIGSTOP every second turn.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from functional.deployments import embedded
from functional.http import Api
from functional.services.gateway import Gateway, merge
from functional.services.rabbitmq import RabbitMQ

#: Pools by name, and the one that is paused.
POOLS = ("default", "stored", "broker", "paused")
PAUSED = "paused"

#: What the calls of administrators have besides.
ADMIN = {"X-Roles": "admin"}

#: Clients of each pool: together they are more than the gateway has threads.
CLIENTS = 4

#: Seconds that a client waits after a 503.
RETRY_AFTER = 0.5

#: Seconds after the pause before a turn counts: until then the gateway finds out.
SETTLING = 6.0


@dataclass
class Turn:
    """What clients have seen: seconds of good answers by pool, and other answers by pool and status."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {pool: [] for pool in POOLS})
    others: Counter[tuple[str, int]] = field(default_factory=Counter)

    def of_others(self) -> list[float]:
        """The seconds of calls for queues in pools that are never paused."""
        return sorted(second for pool in POOLS if pool != PAUSED for second in self.seconds[pool])


def prepare(api: Api, rabbitmqs: dict[str, RabbitMQ], folder: Path, count: int) -> dict[str, list[str]]:
    """Create the pools, each with so many queues; the queues by pool."""
    uris = {name: {"uri": service.uri, "options": {"queue_type": "classic"}} for name, service in rabbitmqs.items()}
    uris["stored"] = {"uri": f"sqlite:///{folder}/stored.db"}
    for name, pool in uris.items():
        answer = api.put(f"/v2/pools/{name}", json={"weight": 0, **pool}, headers=ADMIN)
        assert answer.status_code == 201, answer.text
        answer = api.put(f"/v2/flavors/of-{name}", json={"pool_list": [name]}, headers=ADMIN)
        assert answer.status_code == 201, answer.text
        answer = api.patch(f"/v2/pools/{name}", json={"weight": 1}, headers=ADMIN)
        assert answer.status_code == 200, answer.text
    queues: dict[str, list[str]] = {}
    for pool in POOLS:
        queues[pool] = [f"{pool}-{number}" for number in range(count)]
        metadata = {} if pool == "default" else {"_flavor": f"of-{pool}"}
        for queue in queues[pool]:
            answer = api.put(f"/v2/queues/{queue}", json=metadata)
            assert answer.status_code == 201, answer.text
    return queues


def client(
    api: Api, pool: str, queues: list[str], turn: Turn, counts: threading.Event, end: threading.Event
) -> None:
    """Post, claim and delete, one after the other, each time in some queue of a pool."""
    api = api.other_client()
    while not end.is_set():
        path = f"/v2/queues/{random.choice(queues)}"
        claimed = None
        for call in ("post", "claim", "delete"):
            begun = time.monotonic()
            if call == "post":
                answer = api.post(f"{path}/messages", json={"messages": [{"body": 1, "ttl": 300}]})
            elif call == "claim":
                answer = api.post(f"{path}/claims", json={"ttl": 60, "grace": 60}, params={"limit": 1})
                claimed = answer.json()["messages"][0]["href"] if answer.status_code == 201 else None
            elif claimed is not None:
                answer = api.delete(claimed)
            if counts.is_set():
                if answer.status_code < 300:
                    turn.seconds[pool].append(time.monotonic() - begun)
                else:
                    turn.others[pool, answer.status_code] += 1
            if answer.status_code == 503:
                end.wait(RETRY_AFTER)


def take_turn(api: Api, queues: dict[str, list[str]], duration: float, settling: float) -> Turn:
    """Let all clients work for ``settling`` and ``duration`` seconds; only the latter count."""
    turn, counts, end = Turn(), threading.Event(), threading.Event()
    threads = [
        threading.Thread(target=client, args=(api, pool, queues[pool], turn, counts, end))
        for pool in POOLS for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    time.sleep(settling)
    counts.set()
    time.sleep(duration)
    end.set()
    for thread in threads:
        thread.join()
    return turn


def compare(count: int, rounds: int, duration: float) -> float:
    """Print what was measured; how many times longer the median call for other pools takes during the pause."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rabbitmqs = {name: stack.enter_context(RabbitMQ()) for name in ("broker", PAUSED)}
        gateway = stack.enter_context(Gateway(merge(embedded(folder))))
        api = Api(gateway.url)
        queues = prepare(api, rabbitmqs, folder, count)
        ratios = []
        for number in range(rounds):
            turns = {}
            for name in ("running", "paused") if number % 2 else ("paused", "running"):
                if name == "paused":
                    rabbitmqs[PAUSED].pause()
                turns[name] = take_turn(api, queues, duration, SETTLING)
                if name == "paused":
                    rabbitmqs[PAUSED].resume()
            for name, turn in turns.items():
                seconds = turn.of_others()
                print(
                    f"{name:8} others: {len(seconds) / duration:6.0f} calls/s, median"
                    f" {1000 * statistics.median(seconds):6.1f} ms, p99 {1000 * seconds[int(len(seconds) * 0.99)]:6.1f}"
                    f" ms; other answers {dict(turn.others)}", flush=True,
                )
                assert all(pool == PAUSED for pool, _ in turn.others), "a call for another pool has failed"
            ratios.append(statistics.median(turns["paused"].of_others())
                          / statistics.median(turns["running"].of_others()))
        print(f"ratios of the medians: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
        return statistics.median(ratios)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m functional.pools.paused", description=__doc__)
    parser.add_argument("--queues", type=int, default=250, help="queues in each pool (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns with and without the pause (default: %(default)s)")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds of a turn (default: %(default)s)")
    arguments = parser.parse_args()
    sys.exit(0 if compare(arguments.queues, arguments.rounds, arguments.duration) <= 1.2 else 1)


if __name__ == "__main__":
    main()
