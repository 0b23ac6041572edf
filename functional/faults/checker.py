"""Did the gateway keep its promises? Judged from what clients were told, and from nothing else.

The rules are those of docs/architecture.md; groups.py has those of FIFO queues. What a client can't know (a call
without an answer, or with a 503, may have been done or not) is judged in favour of the gateway, and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from functional.faults.groups import check_groups
from functional.faults.history import CLAIM, DELETE, GET, LIST, POP, POST, RELEASE, RENEW, Call, History, Seen
from functional.faults.stories import FINAL, IN_HAND, NEVER, SLACK, Hold, Story, Told, Violation, describe, tell

__all__ = ["FINAL", "IN_HAND", "ORDER", "SENT_AGAIN", "Report", "Violation", "check", "describe"]

#: The rule that RabbitMQ's clusters still break now and then, see docs/reliability.md.
ORDER = "first in, first out"

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

#: The status of a post whose key is that of another one that is still being done.
STILL_RUNNING = 409


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
    told = Told(history)
    _Check(told).judge()
    check_groups(told)
    return Report(_counts(told), told.violations, history)


class _Check:
    def __init__(self, told: Told):
        self._told = told
        self._counts = told.counts

    def judge(self) -> None:
        for story in self._told.stories.values():
            self._not_lost(story)
            self._stays_deleted(story)
            self._one_claim(story)
            self._expires(story)
            self._answered_in_the_end(story)
        self._order()
        self._walks()
        self._answers()

    def _violated(self, rule: str, text: str, story: Story | None = None) -> None:
        self._told.violated(rule, text, story)

    # -- one message at a time ----------------------------------------------------------------------------------

    def _not_lost(self, story: Story) -> None:
        told, queue = self._told, story.queue
        if not story.safe or story.id is None or story.id in told.final[queue]:
            return
        if any(call.succeeded or call.unknown for call in story.deletes) or story.popped():
            return
        claimed = any(call.kind == CLAIM for call, _ in story.shown)
        if not claimed and story.begun + story.ttl - SLACK < told.final_at.get(queue, NEVER):
            self._counts["expired"] += 1
        elif any(call.kind == POP and call.unknown for call in told.shaky[queue]):
            self._counts["maybe popped"] += 1
        else:
            self._counts["lost"] += 1
            self._violated("nothing confirmed is lost", f"{story.id} is nowhere", story)

    def _stays_deleted(self, story: Story) -> None:
        ends = [call.returned for call in story.deletes if call.succeeded] + [c.returned for c in story.popped()]
        if not ends:
            return
        deleted = min(ends)
        again = [call for call, _ in story.shown if call.invoked > deleted]
        if not again:
            return
        self._counts["delivered again after delete"] += 1
        chances = 0 if story.remembered else self._chances(story, again[-1].returned)
        comebacks, until = 0, -NEVER  # shown again and then claimed again, it has come back once
        for call in sorted(again, key=lambda call: call.invoked):
            if call.invoked > until:
                comebacks += 1
                until = min((end for end in ends if end > call.returned), default=NEVER)
        if comebacks > chances or not chances:
            self._violated(
                "deleted stays deleted", f"deleted by {deleted:.3f}, shown again in {describe(again[0])}", story
            )

    def _chances(self, story: Story, until: float) -> int:
        """How often a message whose id nobody remembers may have come back by then."""
        faults = [
            fault for fault in self._told.history.faults
            if fault.begun < until and fault.mended + IN_HAND > story.begun
        ]
        return len(faults) + (story.ended - story.begun > SENT_AGAIN)

    def _one_claim(self, story: Story) -> None:
        latest: Hold | None = None
        for hold in sorted(self._told.holds(story, story.deletes), key=lambda hold: hold.start):
            if hold.end <= hold.start:
                continue
            if latest and hold.start < latest.end:
                self._counts["two live claims"] += 1
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

    def _delete_was_right(self, story: Story, delete: Call) -> None:
        """It must not have taken effect while a claim that it did not name held the message."""
        others = [
            call for call in story.deletes
            if call is not delete and (call.succeeded or call.unknown) and call.invoked < delete.returned
        ]
        if others:
            return  # it may have been gone already, and then that is the right answer
        for hold in self._told.holds(story, ()):
            if hold.claim.claim != delete.claim and hold.start < delete.invoked and delete.returned < hold.end:
                text = f"{describe(delete)} against {describe(hold.claim)}"
                self._violated("only its claim deletes a claimed message", text, story)

    def _expires(self, story: Story) -> None:
        end = story.ended + story.ttl + SLACK
        if any(call.kind == CLAIM for call, _ in story.shown):
            return  # a claim prolongs its life
        for call, _ in story.shown:
            if call.invoked > end:
                self._violated("expired is never returned", f"after {end:.3f} in {describe(call)}", story)

    def _answered_in_the_end(self, story: Story) -> None:
        """Who repeats a post until it is answered gets a 201."""
        if len(story.posts) > 1 and not story.safe:
            self._violated("a repeated post is answered", f"not in {len(story.posts)} times", story)

    # -- order --------------------------------------------------------------------------------------------------

    def _order(self) -> None:
        by_producer: dict[tuple[str, str], list[Story]] = defaultdict(list)
        for (queue, producer, _), story in sorted(self._told.stories.items(), key=lambda item: item[0]):
            if story.group is None and story.safe and story.deliveries():
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
        if seen.claim_count > 1 or self._told.in_hand(other):
            self._counts["out of order, after a failure"] += 1
        else:
            self._violated(ORDER, f"a later one was delivered before, in {describe(other)}", story)

    # -- listing ------------------------------------------------------------------------------------------------

    def _walks(self) -> None:
        told = self._told
        for (queue, walk), calls in told.walks().items():
            met: Counter[str] = Counter(seen.id for call in calls for seen in call.seen)
            self._counts["listed"] += len(met)
            for id_, times in met.items():
                if times > 1:
                    self._violated(
                        "a walk sees no message twice", f"{walk} saw {id_} {times} times", told.by_id.get((queue, id_))
                    )
            if not told.is_claimed(queue):
                self._walk_in_order(queue, walk, calls)
            end = calls[-1].invoked
            for story in told.stories.values():
                if story.queue != queue or not story.safe or story.id in met or told.was_taken(story) or story.delay:
                    continue
                if story.confirmed < end < story.begun + story.ttl - SLACK:
                    self._violated("a walk misses no free message", f"{walk} did not see {story.id}", story)

    def _walk_in_order(self, queue: str, walk: str, calls: Sequence[Call]) -> None:
        """A walk meets the messages of each producer in the order in which they were posted."""
        latest: dict[str, tuple[int, Call]] = {}
        met: set[str] = set()
        for call in calls:
            for seen in call.seen:
                story = self._told.story_of(queue, seen)
                if story is None or story.group is not None or not story.safe or seen.id in met:
                    continue
                met.add(seen.id)
                number, before = latest.get(seen.producer, (-1, call))
                if seen.number > number:
                    latest[seen.producer] = seen.number, call
                elif self._told.in_hand(before):
                    self._counts["listed out of order, after a failure"] += 1
                else:
                    self._violated(ORDER, f"{walk} saw number {number} before, in {describe(before)}", story)

    # -- answers ------------------------------------------------------------------------------------------------

    def _answers(self) -> None:
        told = self._told
        for call in told.calls:
            if call.status is None:
                disturbed = any(
                    fault.victim == call.gateway and fault.begun <= call.returned
                    and call.invoked <= fault.mended + RESTART
                    for fault in told.history.faults
                )
                if not disturbed:
                    self._violated("every call is answered", f"{describe(call)}: {call.error}")
            elif call.status not in STATUSES[call.kind] and (call.key is None or call.status != STILL_RUNNING):
                self._violated("only designed answers", f"{describe(call)}: {call.error}")
            if call.kind == GET and call.status == 404:
                story = told.by_id.get((call.queue, call.ids[0]))
                if (
                    story and story.confirmed < call.invoked and not told.was_taken(story)
                    and call.returned < story.begun + story.ttl - SLACK
                ):
                    self._violated("what is there can be read", describe(call), story)


def _counts(told: Told) -> Counter[str]:
    stories = told.stories.values()
    delivered = [story for story in stories if story.deliveries()]
    answers = Counter("503" if call.status == 503 else "none" for call in told.calls if call.unknown)
    return Counter({
        "calls": len(told.calls),
        "answered 503": answers["503"],
        "without answer": answers["none"],
        "posted": len(stories),
        "confirmed": sum(story.safe for story in stories),
        "posted again": sum(len(story.posts) > 1 for story in stories),
        "delivered": len(delivered),
        "more than once": sum(len(story.deliveries()) > 1 for story in delivered),
        "acknowledged": sum(any(call.succeeded for call in story.deletes) for story in stories),
        "left": sum(len(ids) for ids in told.final.values()),
        "lost": 0,
        "two live claims": 0,
        "two live claims in a group": 0,
        "handed out of groups": 0,
        "out of order in a group": 0,
        "published twice": 0,
        "delivered again after delete": 0,
    } | told.counts)
