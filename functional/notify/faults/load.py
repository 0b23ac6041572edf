"""Who posts, and who takes messages off a queue meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from functional.faults.clients import Client, Popper, Producer
from functional.faults.history import POST
from functional.notify.faults.history import NotifyHistory
from functional.notify.faults.receivers import FAST
from functional.notify.faults.stories import NEVER, Stories, body_of
from functional.services.gateway import Gateway
from functional.wait import wait_until

#: Seconds between two posts of a producer, about, and how many messages a post has at most.
POST_PAUSE = 1.0
BATCH = 2

#: Seconds of ttl of most messages, and of those that may expire.
TTL, BRIEF_TTL = 3600, 60

#: Share of posts whose messages are delayed, and by how many seconds at most.
DELAYED, LONGEST_DELAY = 0.15, 3

#: Seconds until everybody is told again after a fault was mended.
GOOD_AGAIN = 120.0


class Poster(Producer):
    """Posts numbered messages, some of which are delayed."""

    pause = POST_PAUSE

    def turn(self) -> None:
        count = self.random.randint(1, BATCH)
        numbers = list(range(self._next, self._next + count))
        self._next += count
        delay = {"delay": self.random.randint(1, LONGEST_DELAY)} if self.random.random() < DELAYED else {}
        messages = [{"ttl": self._ttl, "body": body_of(self.name, number), **delay} for number in numbers]
        with self._recorded(POST, numbers=numbers, ttl=self._ttl) as call:
            document = self._call(call, "POST", "/messages", json={"messages": messages})
            if call.succeeded:
                call.ids = [href.rpartition("/")[2] for href in document["resources"]]


class Brief(Poster):
    """Posts less, for all of which time may run out."""

    pause = 3 * POST_PAUSE


class Load:
    """Posters to all queues, and somebody who takes from the first one: that must not matter to subscriptions."""

    def __init__(
        self, history: NotifyHistory, gateways: Sequence[Gateway], project: str, queues: Sequence[str], seed: int
    ) -> None:
        self._history = history
        self._clients: list[Client] = [
            Popper(f"popper-{queues[0]}", history, gateways, project, queues[0], str(seed))
        ]
        for queue in queues:
            for n in (1, 2):
                self._clients.append(
                    Poster(f"poster-{n}-{queue}", history, gateways, project, queue, str(seed), ttl=TTL)
                )
            self._clients.append(
                Brief(f"brief-{queue}", history, gateways, project, queue, str(seed), ttl=BRIEF_TTL)
            )

    def start(self) -> None:
        """Let all begin."""
        for client in self._clients:
            client.start()

    def finish(self) -> None:
        """Post no more."""
        for client in self._clients:
            client.stop.set()
        for client in self._clients:
            client.join()

    def until_good(self, since: float) -> float:
        """Wait until all fast receivers were told of a message posted after ``since``; when the last one was."""
        return wait_until(lambda: self._good(since), GOOD_AGAIN, "all fast receivers to be told of something new")

    def _good(self, since: float) -> float | None:
        stories = Stories(self._history)
        first: dict[str, float] = {}
        for (name, key), attempts in stories.told.items():
            if stories.messages[key].post.invoked > since:
                taken = [attempt.at for attempt in attempts if attempt.taken]
                first[name] = min([*taken, first.get(name, NEVER)])
        fast = [
            first.get(each.name, NEVER) for each in stories.subscriptions.values()
            if each.receiver == FAST and not each.changes and each.made < since
        ]
        return max(fast) if fast and max(fast) < NEVER else None
