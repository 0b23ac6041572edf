"""How fast a long backlog moves, in what memory, and what its users feel: `python -m functional.migration.backlog`.

A queue with the backlog moves from RabbitMQ to RabbitMQ 4, while clients use another queue and this one.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from dataclasses import dataclass, field
from statistics import median, quantiles

from functional.http import Api
from functional.migration.journey import Hop
from functional.migration.pools import ADMIN, DEFAULT, Pools
from functional.soak import resident
from gateway.bench.report import table

#: Messages of a post that fills the queue, and bytes of each body.
FILLED_AT_ONCE, BODY = 200, 256

#: Seconds that clients are watched before the move.
BEFORE = 15.0

#: Messages of each post and claim of a client.
BATCH = 5

MOVED, OTHER = "moved", "other"


@dataclass
class User:
    """A client that posts, claims and deletes, and how long that took, in seconds."""

    api: Api
    queue: str
    seconds: list[tuple[float, float]] = field(default_factory=list)
    failed: int = 0

    def run(self, end: threading.Event) -> None:
        """Work until the end."""
        path = f"/v2/queues/{self.queue}"
        while not end.is_set():
            begun = time.monotonic()
            answers = [self.api.post(f"{path}/messages", json={"messages": [{"body": "x" * BODY}] * BATCH})]
            answers.append(self.api.post(f"{path}/claims?limit={BATCH}", json={"ttl": 300, "grace": 60}))
            if answers[-1].status_code == 201:
                ids = [message["id"] for message in answers[-1].json()["messages"]]
                claim = answers[-1].headers["Location"].rpartition("/")[2]
                answers += [
                    self.api.delete(f"{path}/messages/{id_}", params={"claim_id": claim}) for id_ in ids
                ]
            self.failed += any(answer.status_code >= 400 for answer in answers)
            self.seconds.append((begun, time.monotonic() - begun))
            end.wait(0.05)

    def between(self, since: float, until: float) -> list[float]:
        """Seconds of the rounds that began then."""
        return [seconds for begun, seconds in self.seconds if since <= begun < until]


def main() -> int:
    """The exit status: 0 if the queue has arrived with all that it had."""
    parser = argparse.ArgumentParser(prog="python -m functional.migration.backlog", description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000, help="in the backlog (%(default)s)")
    parser.add_argument("--target", default="rabbitmq-4", help="pool to move to (%(default)s)")
    options = parser.parse_args()
    posts = {"transport": {"max_messages_post_size": 1_000_000}}
    with Pools(print, (DEFAULT, "rabbitmq-4"), options=posts) as pools:
        api = Api(pools.gateways[0].url)
        pools.gateways[1].stop()  # one gateway does everything, so that its memory tells all
        fill(api, options.messages)
        users = [User(api.other_client(), queue) for queue in (OTHER, MOVED)]
        end = threading.Event()
        threads = [threading.Thread(target=user.run, args=(end,)) for user in users]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        time.sleep(BEFORE)
        hop, memory, moved = watched(api, pools, options.target)
        end.set()
        for thread in threads:
            thread.join()
        left = api.get(f"/v2/queues/{MOVED}/stats").json()["messages"]["total"]
    landed = hop.phases.get("settling", hop.ended or 0.0)
    seconds = landed - hop.phases["switching"]
    print(f"{hop}; {moved:,} messages moved, {moved / seconds:,.0f} a second while they landed; {left:,} are left")
    before, *later = (size / 2**20 for size in memory)
    print(f"memory of the gateway: {before:.0f} MiB before, {max(later):.0f} at most, {later[-1]:.0f} after")
    print(table(("round of post, claim and deletes", "when", "rounds", "median ms", "p95 ms", "failed"), [
        row for user in users for row in (
            _row(user, "before", begun, hop.begun), _row(user, "while it moved", hop.begun, landed),
            _row(user, "settling", landed, hop.ended or landed),
        )
    ]))
    taken = BATCH * len(users[1].seconds)
    return 0 if options.messages <= left + taken else 1


def _row(user: User, when: str, since: float, until: float) -> tuple[str, ...]:
    found = user.between(since, until)
    if len(found) < 2:
        return user.queue, when, str(len(found)), "", "", ""
    p95 = quantiles(found, n=20)[-1]
    return user.queue, when, str(len(found)), f"{median(found) * 1000:.0f}", f"{p95 * 1000:.0f}", str(user.failed)


def fill(api: Api, messages: int) -> None:
    """Post the backlog."""
    for start in range(0, messages, FILLED_AT_ONCE):
        count = min(FILLED_AT_ONCE, messages - start)
        answer = api.post(f"/v2/queues/{MOVED}/messages", json={"messages": [{"body": "x" * BODY}] * count})
        if answer.status_code != 201:
            raise RuntimeError(answer.text)


def watched(api: Api, pools: Pools, target: str) -> tuple[Hop, list[int], int]:
    """Move the queue; its hop, the bytes of the gateway's memory meanwhile, and how many messages moved."""
    hop, gateway, moved = Hop(MOVED, target, time.monotonic()), pools.gateways[0], 0
    memory = [resident(gateway)]
    answer = api.post(f"/v2/queues/{MOVED}/migrate", json={"pool": target}, headers=ADMIN)
    if answer.status_code != 202:
        raise RuntimeError(answer.text)
    while hop.ended is None:
        time.sleep(0.25)
        memory.append(resident(gateway))
        found = api.get(f"/v2/queues/{MOVED}/migration", headers=ADMIN).json()
        if (move := found["migration"]) is None:
            hop.ended = time.monotonic()
        else:
            moved = max(moved, move["moved"])
            hop.phases.setdefault(move["phase"], time.monotonic())
    return hop, memory, moved


if __name__ == "__main__":
    sys.exit(main())
