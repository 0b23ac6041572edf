"""What clients were told, by message, and what is found wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from functional.faults.history import CLAIM, DELETE, LIST, POP, POST, RELEASE, RENEW, Call, Fault, History, Seen

#: Walk of the lists that show what is left in a queue at the end, claimed or not.
FINAL = "final"

#: Seconds by which two clocks may differ in what they say of a ttl.
SLACK = 1.0

#: Seconds for which a broker may hold back what a failed call had fetched, after the call or the fault that broke it.
IN_HAND = 6.0

NEVER = float("inf")


@dataclass(eq=False)
class Story:
    """All that is known of one message.

    ``posts``: the requests that asked to store it, more than one if its producer repeats what was not answered.
    ``group``: None in an ordinary queue, and "" for the one group of all messages without any. ``id`` is None until an
    answer has told it.
    """

    producer: str
    number: int
    posts: list[Call]
    group: str | None = None
    id: str | None = None
    shown: list[tuple[Call, Seen]] = field(default_factory=list)
    deletes: list[Call] = field(default_factory=list)

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self.posts[0].queue

    @property
    def ttl(self) -> float:
        """Seconds that it lives when nobody claims it."""
        return self.posts[0].ttl

    @property
    def delay(self) -> float:
        """Seconds for which nobody gets it."""
        return self.posts[0].delay

    @property
    def begun(self) -> float:
        """When it was posted for the first time."""
        return self.posts[0].invoked

    @cached_property
    def confirmed(self) -> float:
        """When its post was answered 201 for the first time; NEVER if it was not."""
        return min((post.returned for post in self.posts if post.succeeded), default=NEVER)

    @property
    def ended(self) -> float:
        """When the last answer to its post came, or was not waited for any longer."""
        return max(post.returned for post in self.posts)

    @property
    def safe(self) -> bool:
        """Was its post confirmed?"""
        return self.confirmed < NEVER

    @property
    def remembered(self) -> bool:
        """Does its queue, or its key, promise that it never comes back once it was deleted?"""
        return self.group is not None or any(post.key is not None for post in self.posts)

    def precedes(self, other: Story) -> bool:
        """Was it posted before another one for certain? Of one post it is the one with the lower number."""
        if self.posts[0] is other.posts[0]:
            return self.safe and self.number < other.number
        return self.confirmed < other.begun

    def deliveries(self) -> list[tuple[Call, Seen]]:
        """Where it was claimed or popped, in the order of the answers."""
        found = [(call, seen) for call, seen in self.shown if call.kind in (CLAIM, POP)]
        return sorted(found, key=lambda delivery: delivery[0].returned)

    def popped(self) -> list[Call]:
        """Calls that have popped it."""
        return [call for call, _ in self.shown if call.kind == POP]


@dataclass(frozen=True)
class Hold:
    """From ``start`` to ``end`` a claim held a message for certain."""

    claim: Call
    start: float
    end: float


@dataclass(frozen=True)
class Violation:
    """A promise that was broken, and to which message."""

    rule: str
    text: str
    story: Story | None = None


class Told:
    """A history by message. Rules add to ``violations`` and ``counts``."""

    def __init__(self, history: History):
        self.history = history
        self.calls = sorted(history.calls, key=lambda call: call.invoked)
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.stories: dict[tuple[str, str, int], Story] = {}
        self.by_id: dict[tuple[str, str], Story] = {}
        #: Calls whose outcome is unknown, by queue.
        self.shaky: dict[str, list[Call]] = defaultdict(list)
        #: What was left in each queue: ids, and when they were listed.
        self.final: dict[str, dict[str, float]] = defaultdict(dict)
        self._releases: dict[str, float] = {}
        self._renewals: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.kind == POST:
                self._post(call)
        for call in self.calls:
            self._read(call)
        for call in self.calls:  # only now every id that can be known is
            if call.kind == DELETE and (story := self.by_id.get((call.queue, call.ids[0]))):
                story.deletes.append(call)

    def violated(self, rule: str, text: str, story: Story | None = None) -> None:
        """Say that a promise was broken."""
        self.violations.append(Violation(rule, text, story))

    # -- reading ------------------------------------------------------------------------------------------------

    def _post(self, call: Call) -> None:
        ids = call.ids or [None] * len(call.numbers)
        groups = call.groups or [None] * len(call.numbers)
        for number, group, id_ in zip(call.numbers, groups, ids, strict=True):
            story = self.stories.setdefault((call.queue, call.client, number), Story(call.client, number, [], group))
            story.posts.append(call)
            if id_ is None or not self._is_its_id(story, id_, call):
                continue
            if self.by_id.setdefault((call.queue, id_), story) is not story:
                self.violated("ids are unique", f"{id_} was given twice", story)

    def _is_its_id(self, story: Story, id_: str, call: Call) -> bool:
        """Is it what the message was called before, if that is known?"""
        story.id = story.id or id_
        if story.id == id_:
            return True
        if len(story.posts) > 1:
            self.counts["published twice"] += 1
            self.violated("a repeated post is published once", f"it is {id_} too in {describe(call)}", story)
        else:
            self.violated("a message keeps its id", f"it is {id_} in {describe(call)}", story)
        return False

    def _read(self, call: Call) -> None:
        if call.unknown:
            self.shaky[call.queue].append(call)
        for seen in call.seen:
            self._show(call, seen)
        if call.walk == FINAL:
            self.final[call.queue] |= {seen.id: call.invoked for seen in call.seen}
        if call.kind == RENEW and call.succeeded:
            assert call.claim
            self._renewals[call.claim].append(call)
        if call.kind == RELEASE and (call.succeeded or call.unknown):
            assert call.claim
            self._releases[call.claim] = min(call.invoked, self._releases.get(call.claim, NEVER))

    def _show(self, call: Call, seen: Seen) -> None:
        story = self.stories.get((call.queue, seen.producer, seen.number))
        if story is None:
            self.violated("nothing is made up", f"{seen} in {describe(call)} was never posted")
            return
        if self._is_its_id(story, seen.id, call):
            self.by_id.setdefault((call.queue, seen.id), story)
            story.shown.append((call, seen))

    # -- what follows from it -----------------------------------------------------------------------------------

    def story_of(self, queue: str, seen: Seen) -> Story | None:
        """The message that was shown; None if nobody posted it, or if it is known under another id."""
        story = self.stories.get((queue, seen.producer, seen.number))
        return story if story is not None and story.id == seen.id else None

    def holds(self, story: Story, deletes: Iterable[Call], late_renewals: bool = False) -> Iterator[Hold]:
        """When claims have held a message for certain, unless these calls have deleted it.

        ``late_renewals``: believe a renewal that was answered 204 after the end of what it has renewed.
        """
        for call, _ in story.shown:
            if call.kind == CLAIM and call.claim:
                released = self._releases.get(call.claim, NEVER)
                ends = [d.invoked for d in deletes if (d.succeeded or d.unknown) and d.returned > call.invoked]
                last = min(released, *ends, NEVER)
                end = call.invoked + call.ttl - SLACK
                for renewal in self._renewals.get(call.claim, ()):
                    until = renewal.invoked + renewal.ttl - SLACK
                    if renewal.invoked < end:
                        end = max(end, until)
                    elif late_renewals:
                        yield Hold(call, renewal.returned, min(until, last))
                yield Hold(call, call.returned, min(end, last))

    def in_hand(self, call: Call) -> bool:
        """May somebody whose call failed have had messages in hand that ``call`` should have got?"""
        return any(
            shaky.invoked < call.returned and self.let_go(shaky) > call.invoked for shaky in self.shaky[call.queue]
        )

    def let_go(self, shaky: Call) -> float:
        """When messages in the hand of a failed call are back in the queue at the latest."""
        ends = [fault.mended for fault in self._faults(shaky.invoked, shaky.returned)]
        return max(shaky.returned, *ends, 0) + IN_HAND

    def _faults(self, since: float, until: float) -> list[Fault]:
        return [fault for fault in self.history.faults if fault.begun < until and since < fault.mended + IN_HAND]

    @cached_property
    def unknown_pops(self) -> dict[str, list[tuple[float, float]]]:
        """Between which times pops without a known outcome may have taken messages, by queue."""
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for queue, calls in self.shaky.items():
            found[queue] = [(call.invoked, self.let_go(call)) for call in calls if call.kind == POP]
        return found

    def walks(self) -> dict[tuple[str, str], list[Call]]:
        """The pages of each walk with markers that ends at no end, by queue and walk."""
        walks: dict[tuple[str, str], list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.kind == LIST and call.walk and call.walk != FINAL:
                walks[call.queue, call.walk].append(call)
        return walks

    def was_taken(self, story: Story) -> bool:
        """May somebody have taken or deleted it?"""
        return bool(story.deletes or story.deliveries()) or story.queue in self._claimed_queues

    def is_claimed(self, queue: str) -> bool:
        """Does anybody claim or pop from a queue?"""
        return queue in self._claimed_queues

    @cached_property
    def _claimed_queues(self) -> set[str]:
        return {call.queue for call in self.calls if call.kind in (CLAIM, POP)}

    @cached_property
    def final_at(self) -> dict[str, float]:
        """When the last look at what is left in each queue was over."""
        ends: dict[str, float] = {}
        for call in self.calls:
            if call.walk == FINAL:
                ends[call.queue] = max(call.returned, ends.get(call.queue, call.returned))
        return ends


def describe(call: Call) -> str:
    """A call in half a line."""
    claim = f" claim {call.claim[:8]}" if call.claim else ""
    count = f" {len(call.seen)} messages" if call.seen else ""
    key = f" key {call.key}" if call.key else ""
    return (
        f"{call.kind} {call.queue} by {call.client} at {call.gateway}{claim}{key}, {call.invoked:.3f}-"
        f"{call.returned:.3f}, {call.status}{count}"
    )


def tell(story: Story, history: History) -> Sequence[str]:
    """All that happened to a message, with the faults of that time, in order."""
    events = [(post.invoked, f"{describe(post)} -> {', '.join(post.ids)}") for post in story.posts]
    events += [(call.invoked, f"{describe(call)}, shows it, claimed {seen.claim_count}") for call, seen in story.shown]
    events += [(call.invoked, f"{describe(call)} {call.error or ''}") for call in story.deletes]
    last = max(at for at, _ in events) + 1
    events += [
        (fault.begun, f"FAULT {fault.kind} {fault.victim}, {fault.begun:.3f}-{fault.mended:.3f}")
        for fault in history.faults
        if fault.begun < last and story.begun - IN_HAND < fault.mended
    ]
    group = "" if story.group is None else f", group {story.group!r}"
    head = f"message {story.number} of {story.producer} in {story.queue}{group}: {story.id}"
    return [head, *(f"{at:9.3f} {text}" for at, text in sorted(events))]
