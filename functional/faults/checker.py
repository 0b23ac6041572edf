"""Did the gateway keep its promises? Judged from what clients were told, and from nothing else.

The rules are those of docs/architecture.md. What a client can't know (a call without an answer, or with a 503, may
have been done or not) is judged in favour of the gateway, and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from functional.faults.history import CLAIM, DELETE, GET, LIST, POP, POST, RELEASE, RENEW, Call, Fault, History, Seen

#: The rule that RabbitMQ's clusters still break now and then, see docs/reliability.md.
ORDER = "first in, first out"

#: Walk of the lists that show what is left in a queue at the end, claimed or not.
FINAL = "final"

#: Seconds by which two clocks may differ in what they say of a ttl.
SLACK = 1.0

#: Seconds for which a broker may hold back what a failed call had fetched, after the call or the fault that broke it.
IN_HAND = 6.0

#: Seconds after which a gateway sends a post that is not confirmed once more, with the same ids: half of its timeout.
#: Both copies may be enqueued then, and the second comes by when the first has been deleted.
SENT_AGAIN = 1.5

#: Seconds for which a gateway that was killed or stopped may leave calls without an answer after it is back.
RESTART = 3.0

#: The statuses that each kind of call may have.
STATUSES = {
    POST: {201, 503},
    CLAIM: {201, 204, 503},
    RENEW: {204, 404, 503},
    RELEASE: {204, 503},
    DELETE: {204, 400, 403, 503},
    POP: {200, 503},
    LIST: {200, 503},
    GET: {200, 404, 503},
}

NEVER = float("inf")


@dataclass
class Story:
    """All that is known of one message. ``id`` is None until an answer has told it."""

    producer: str
    number: int
    post: Call
    id: str | None = None
    shown: list[tuple[Call, Seen]] = field(default_factory=list)
    deletes: list[Call] = field(default_factory=list)

    @property
    def safe(self) -> bool:
        """Was its post confirmed?"""
        return self.post.succeeded

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


@dataclass
class Report:
    """The verdict on a run; ``lines`` is for people."""

    counts: Counter[str]
    violations: list[Violation]
    history: History

    @property
    def good(self) -> bool:
        """Was every promise kept?"""
        return not self.violations

    def lines(self) -> Iterator[str]:
        """Counts, then every violation with its message's whole story."""
        yield ", ".join(f"{name} {count}" for name, count in self.counts.items())
        for violation in self.violations:
            yield f"VIOLATION: {violation.rule}: {violation.text}"
            if violation.story:
                yield from (f"    {line}" for line in tell(violation.story, self.history))


def check(history: History) -> Report:
    """Judge a run whose last calls have listed, as walk `FINAL`, all that was left in each queue."""
    return _Check(history).report()


class _Check:
    def __init__(self, history: History):
        self.history = history
        self.calls = sorted(history.calls, key=lambda call: call.invoked)
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.stories: dict[tuple[str, str, int], Story] = {}
        self.by_id: dict[tuple[str, str], Story] = {}
        self.releases: dict[str, float] = {}
        self.renewals: dict[str, list[Call]] = defaultdict(list)
        self.shaky: dict[str, list[Call]] = defaultdict(list)  # calls whose outcome is unknown, by queue
        self.final: dict[str, dict[str, float]] = defaultdict(dict)

    def report(self) -> Report:
        self._read()
        for story in self.stories.values():
            self._not_lost(story)
            self._stays_deleted(story)
            self._one_claim(story)
            self._expires(story)
        self._order()
        self._walks()
        self._answers()
        self._count()
        return Report(self.counts, self.violations, self.history)

    def _violated(self, rule: str, text: str, story: Story | None = None) -> None:
        self.violations.append(Violation(rule, text, story))

    # -- reading ------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for call in self.calls:
            if call.kind == POST:
                ids = call.ids or [None] * len(call.numbers)
                for number, id_ in zip(call.numbers, ids, strict=True):
                    story = Story(call.client, number, call, id_)
                    self.stories[call.queue, call.client, number] = story
                    if id_ is not None:
                        if (call.queue, id_) in self.by_id:
                            self._violated("ids are unique", f"{id_} was given twice", story)
                        self.by_id[call.queue, id_] = story
        for call in self.calls:
            if call.unknown:
                self.shaky[call.queue].append(call)
            for seen in call.seen:
                self._show(call, seen)
            if call.walk == FINAL:
                self.final[call.queue] |= {seen.id: call.invoked for seen in call.seen}
            if call.kind == RENEW and call.succeeded:
                assert call.claim
                self.renewals[call.claim].append(call)
            if call.kind == RELEASE and (call.succeeded or call.unknown):
                assert call.claim
                self.releases[call.claim] = min(call.invoked, self.releases.get(call.claim, NEVER))
        for call in self.calls:  # only now every id that can be known is
            if call.kind == DELETE and (story := self.by_id.get((call.queue, call.ids[0]))):
                story.deletes.append(call)

    def _show(self, call: Call, seen: Seen) -> None:
        story = self.stories.get((call.queue, seen.producer, seen.number))
        if story is None:
            self._violated("nothing is made up", f"{seen} in {describe(call)} was never posted")
            return
        if story.id is None:
            story.id = seen.id
            self.by_id[call.queue, seen.id] = story
        elif story.id != seen.id:
            self._violated("a message keeps its id", f"it is {seen.id} in {describe(call)}", story)
        story.shown.append((call, seen))

    # -- one message at a time ----------------------------------------------------------------------------------

    def _not_lost(self, story: Story) -> None:
        queue = story.post.queue
        if not story.safe or story.id is None or story.id in self.final[queue]:
            return
        if any(call.succeeded or call.unknown for call in story.deletes) or story.popped():
            return
        claimed = any(call.kind == CLAIM for call, _ in story.shown)
        if not claimed and story.post.invoked + story.post.ttl - SLACK < self._final_at.get(queue, NEVER):
            self.counts["expired"] += 1
        elif any(call.kind == POP and call.unknown for call in self.shaky[queue]):
            self.counts["maybe popped"] += 1
        else:
            self.counts["lost"] += 1
            self._violated("nothing confirmed is lost", f"{story.id} is nowhere", story)

    @cached_property
    def _final_at(self) -> dict[str, float]:
        """When the last look at what is left in each queue was over."""
        ends: dict[str, float] = {}
        for call in self.calls:
            if call.walk == FINAL:
                ends[call.queue] = max(call.returned, ends.get(call.queue, call.returned))
        return ends

    def _stays_deleted(self, story: Story) -> None:
        ends = [call.returned for call in story.deletes if call.succeeded] + [c.returned for c in story.popped()]
        if not ends:
            return
        deleted = min(ends)
        again = [call for call, _ in story.shown if call.invoked > deleted]
        if not again:
            return
        self.counts["delivered again after delete"] += 1
        chances = sum(
            fault.begun < again[-1].returned and fault.mended + IN_HAND > story.post.invoked
            for fault in self.history.faults
        ) + (story.post.returned - story.post.invoked > SENT_AGAIN)
        comebacks, until = 0, -NEVER  # shown again and then claimed again, it has come back once
        for call in sorted(again, key=lambda call: call.invoked):
            if call.invoked > until:
                comebacks += 1
                until = min((end for end in ends if end > call.returned), default=NEVER)
        if comebacks > chances or not chances:
            self._violated(
                "deleted stays deleted", f"deleted by {deleted:.3f}, shown again in {describe(again[0])}", story
            )

    def _one_claim(self, story: Story) -> None:
        latest: Hold | None = None
        for hold in sorted(self._holds(story, story.deletes), key=lambda hold: hold.start):
            if hold.end <= hold.start:
                continue
            if latest and hold.start < latest.end:
                self.counts["two live claims"] += 1
                self._violated(
                    "one claim holds a message",
                    f"{describe(latest.claim)} holds it until {latest.end:.3f}, and {describe(hold.claim)} as well",
                    story,
                )
            if latest is None or hold.end > latest.end:
                latest = hold
        for delete in story.deletes:
            if delete.succeeded:
                self._delete_was_right(story, delete)

    def _holds(self, story: Story, deletes: Iterable[Call]) -> Iterator[Hold]:
        for call, _ in story.shown:
            if call.kind == CLAIM and call.claim:
                end = call.invoked + call.ttl - SLACK
                for renewal in self.renewals.get(call.claim, ()):
                    if renewal.invoked < end:
                        end = max(end, renewal.invoked + renewal.ttl - SLACK)
                ends = [d.invoked for d in deletes if (d.succeeded or d.unknown) and d.returned > call.invoked]
                yield Hold(call, call.returned, min(end, self.releases.get(call.claim, NEVER), *ends, NEVER))

    def _delete_was_right(self, story: Story, delete: Call) -> None:
        """It must not have taken effect while a claim that it did not name held the message."""
        others = [
            call for call in story.deletes
            if call is not delete and (call.succeeded or call.unknown) and call.invoked < delete.returned
        ]
        if others:
            return  # it may have been gone already, and then that is the right answer
        for hold in self._holds(story, ()):
            if hold.claim.claim != delete.claim and hold.start < delete.invoked and delete.returned < hold.end:
                text = f"{describe(delete)} against {describe(hold.claim)}"
                self._violated("only its claim deletes a claimed message", text, story)

    def _expires(self, story: Story) -> None:
        end = story.post.returned + story.post.ttl + SLACK
        if any(call.kind == CLAIM for call, _ in story.shown):
            return  # a claim prolongs its life
        for call, _ in story.shown:
            if call.invoked > end:
                self._violated("expired is never returned", f"after {end:.3f} in {describe(call)}", story)

    # -- order --------------------------------------------------------------------------------------------------

    def _order(self) -> None:
        by_producer: dict[tuple[str, str], list[Story]] = defaultdict(list)
        for (queue, producer, _), story in sorted(self.stories.items()):
            if story.safe and story.deliveries():
                by_producer[queue, producer].append(story)
        for stories in by_producer.values():
            overtaken_by: Story | None = None  # of all later messages the one that was delivered first
            for story in reversed(stories):
                first, seen = story.deliveries()[0]
                if overtaken_by is not None:
                    other, other_seen = overtaken_by.deliveries()[0]
                    together = first is other
                    before = first.seen.index(seen) > first.seen.index(other_seen) if together else (
                        other.returned < first.invoked
                    )
                    if before:
                        self._overtaken(story, seen, other)
                if overtaken_by is None or first.returned <= overtaken_by.deliveries()[0][0].returned:
                    overtaken_by = story

    def _overtaken(self, story: Story, seen: Seen, other: Call) -> None:
        if seen.claim_count > 1 or self._in_hand(other):
            self.counts["out of order, after a failure"] += 1
        else:
            self._violated(ORDER, f"a later one was delivered before, in {describe(other)}", story)

    def _in_hand(self, call: Call) -> bool:
        """May somebody whose call failed have had messages in hand that ``call`` should have got?"""
        return any(
            shaky.invoked < call.returned and self._let_go(shaky) > call.invoked for shaky in self.shaky[call.queue]
        )

    def _let_go(self, shaky: Call) -> float:
        """When messages in the hand of a failed call are back in the queue at the latest."""
        ends = [fault.mended for fault in self._faults(shaky.invoked, shaky.returned)]
        return max(shaky.returned, *ends, 0) + IN_HAND

    def _faults(self, since: float, until: float) -> list[Fault]:
        return [fault for fault in self.history.faults if fault.begun < until and since < fault.mended + IN_HAND]

    # -- listing ------------------------------------------------------------------------------------------------

    def _walks(self) -> None:
        walks: dict[tuple[str, str], list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.kind == LIST and call.walk and call.walk != FINAL:
                walks[call.queue, call.walk].append(call)
        for (queue, walk), calls in walks.items():
            met: Counter[str] = Counter(seen.id for call in calls for seen in call.seen)
            self.counts["listed"] += len(met)
            for id_, times in met.items():
                if times > 1:
                    self._violated(
                        "a walk sees no message twice", f"{walk} saw {id_} {times} times", self.by_id.get((queue, id_))
                    )
            if queue not in self._claimed_queues:
                self._walk_in_order(queue, walk, calls)
            end = calls[-1].invoked
            for story in self.stories.values():
                if story.post.queue != queue or not story.safe or story.id in met or self._was_taken(story):
                    continue
                if story.post.returned < end < story.post.invoked + story.post.ttl - SLACK:
                    self._violated("a walk misses no free message", f"{walk} did not see {story.id}", story)

    def _walk_in_order(self, queue: str, walk: str, calls: Sequence[Call]) -> None:
        """A walk meets the messages of each producer in the order in which they were posted."""
        latest: dict[str, tuple[int, Call]] = {}
        met: set[str] = set()
        for call in calls:
            for seen in call.seen:
                story = self.stories.get((queue, seen.producer, seen.number))
                if story is None or not story.safe or seen.id in met:
                    continue
                met.add(seen.id)
                number, before = latest.get(seen.producer, (-1, call))
                if seen.number > number:
                    latest[seen.producer] = seen.number, call
                elif self._in_hand(before):
                    self.counts["listed out of order, after a failure"] += 1
                else:
                    self._violated(ORDER, f"{walk} saw number {number} before, in {describe(before)}", story)

    def _was_taken(self, story: Story) -> bool:
        return bool(story.deletes or story.deliveries()) or story.post.queue in self._claimed_queues

    @cached_property
    def _claimed_queues(self) -> set[str]:
        """Queues from which somebody claims or pops."""
        return {call.queue for call in self.calls if call.kind in (CLAIM, POP)}

    # -- answers ------------------------------------------------------------------------------------------------

    def _answers(self) -> None:
        for call in self.calls:
            if call.status is None:
                disturbed = any(
                    fault.victim == call.gateway and fault.begun <= call.returned
                    and call.invoked <= fault.mended + RESTART
                    for fault in self.history.faults
                )
                if not disturbed:
                    self._violated("every call is answered", f"{describe(call)}: {call.error}")
            elif call.status not in STATUSES[call.kind]:
                self._violated("only designed answers", f"{describe(call)}: {call.error}")
            if call.kind == GET and call.status == 404:
                story = self.by_id.get((call.queue, call.ids[0]))
                if (
                    story and story.safe and story.post.returned < call.invoked and not self._was_taken(story)
                    and call.returned < story.post.invoked + story.post.ttl - SLACK
                ):
                    self._violated("what is there can be read", describe(call), story)

    def _count(self) -> None:
        stories = self.stories.values()
        delivered = [story for story in stories if story.deliveries()]
        answers = Counter("503" if call.status == 503 else "none" for call in self.calls if call.unknown)
        self.counts = Counter({
            "calls": len(self.calls),
            "answered 503": answers["503"],
            "without answer": answers["none"],
            "posted": len(stories),
            "confirmed": sum(story.safe for story in stories),
            "delivered": len(delivered),
            "more than once": sum(len(story.deliveries()) > 1 for story in delivered),
            "acknowledged": sum(any(call.succeeded for call in story.deletes) for story in stories),
            "left": sum(len(ids) for ids in self.final.values()),
            "lost": 0,
            "two live claims": 0,
            "delivered again after delete": 0,
        } | self.counts)


def describe(call: Call) -> str:
    """A call in half a line."""
    claim = f" claim {call.claim[:8]}" if call.claim else ""
    count = f" {len(call.seen)} messages" if call.seen else ""
    return (
        f"{call.kind} {call.queue} by {call.client} at {call.gateway}{claim}, {call.invoked:.3f}-{call.returned:.3f},"
        f" {call.status}{count}"
    )


def tell(story: Story, history: History) -> Sequence[str]:
    """All that happened to a message, with the faults of that time, in order."""
    events = [(story.post.invoked, f"{describe(story.post)} -> {story.id}")]
    events += [(call.invoked, f"{describe(call)}, shows it, claimed {seen.claim_count}") for call, seen in story.shown]
    events += [(call.invoked, f"{describe(call)} {call.error or ''}") for call in story.deletes]
    last = max(at for at, _ in events) + 1
    events += [
        (fault.begun, f"FAULT {fault.kind} {fault.victim}, {fault.begun:.3f}-{fault.mended:.3f}")
        for fault in history.faults
        if fault.begun < last and story.post.invoked - IN_HAND < fault.mended
    ]
    head = f"message {story.number} of {story.producer} in {story.post.queue}: {story.id}"
    return [head, *(f"{at:9.3f} {text}" for at, text in sorted(events))]
