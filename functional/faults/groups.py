"""The promise of FIFO queues: a group is handed out in order, by one claim at a time, whatever goes wrong.

Failures excuse nothing here. But what may have been deleted or popped, by a call whose outcome is unknown, may be gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from functional.faults.history import CLAIM, POP, Call
from functional.faults.stories import SLACK, Hold, Story, Told, describe

#: The rules of this module.
IN_ORDER = "a group is handed out in order"
LISTED_IN_ORDER = "a group is listed in order"
ONE_CLAIM = "one claim holds a group"
DELAYED = "a delayed message waits"

#: A claim or pop, and the messages of a group that it has got, in the order of its answer.
Handout = tuple[Call, list[Story]]


def check_groups(told: Told) -> None:
    """Judge all FIFO queues."""
    groups: dict[tuple[str, str], list[Story]] = defaultdict(list)
    for story in told.stories.values():
        if story.group is not None:
            groups[story.queue, story.group].append(story)
    handouts = _handouts(told)
    for key, stories in groups.items():
        _in_order(told, stories, handouts[key])
        _one_claim(told, stories, handouts[key])
        for story in stories:
            _waits(told, story)
    for walk, calls in told.walks().items():
        _listed_in_order(told, walk[1], calls)


def _handouts(told: Told) -> dict[tuple[str, str], list[Handout]]:
    """What was handed out of each group, in the order of the answers."""
    found: dict[tuple[str, str], list[Handout]] = defaultdict(list)
    for call in sorted(told.calls, key=lambda call: call.returned):
        if call.kind not in (CLAIM, POP):
            continue
        parts: dict[tuple[str, str], list[Story]] = defaultdict(list)
        for seen in call.seen:
            story = told.story_of(call.queue, seen)
            if story is not None and story.group is not None:
                parts[call.queue, story.group].append(story)
        for key, stories in parts.items():
            found[key].append((call, stories))
    return found


def _in_order(told: Told, stories: Sequence[Story], handouts: Sequence[Handout]) -> None:
    """When a message is handed out, all before it must be gone, or come before it in the same answer."""
    waiting = sorted((story for story in stories if story.safe), key=lambda story: story.confirmed)
    gone = {story: _gone(told, story) for story in waiting}
    overtaken: set[Story] = set()
    for call, answer in handouts:
        told.counts["handed out of groups"] += len(answer)
        waiting = [story for story in waiting if gone[story] >= call.returned]
        for place, story in enumerate(answer):
            latest = story.confirmed if story.safe else story.begun
            for other in waiting:
                if other.confirmed > latest:
                    break
                if other not in answer[:place] and other not in overtaken and other.precedes(story):
                    overtaken.add(other)
                    told.counts["out of order in a group"] += 1
                    told.violated(IN_ORDER, f"{story.id} was handed out while it waited, in {describe(call)}", other)


def _gone(told: Told, story: Story) -> float:
    """The earliest time at which a message may be gone. It was there when it was shown for the last time."""
    ends = [call.invoked for call in story.deletes if call.succeeded or call.unknown]
    ends += [call.invoked for call in story.popped()]
    ends += [max(since, story.begun) for since, until in told.unknown_pops[story.queue] if until > story.begun]
    ends.append(story.begun + story.ttl - SLACK)
    return max(min(ends), *(call.invoked for call, _ in story.shown), 0.0)


def _one_claim(told: Told, stories: Sequence[Story], handouts: Sequence[Handout]) -> None:
    """While a claim holds a message of a group, nobody else claims or pops one."""
    held: list[tuple[Hold, Story]] = []
    for story in stories:
        holds = told.holds(story, story.deletes, late_renewals=True)
        held += [(hold, story) for hold in holds if hold.start < hold.end]
    held.sort(key=lambda each: each[0].start)
    latest: tuple[Hold, Story] | None = None
    for hold, story in held:
        if latest and hold.start < latest[0].end and hold.claim.claim != latest[0].claim.claim:
            _held_twice(told, latest, hold.claim, story)
        if latest is None or hold.end > latest[0].end:
            latest = hold, story
    for call, answer in handouts:
        if call.kind != POP:
            continue
        for each in held:
            if each[0].start < call.invoked and call.returned < each[0].end:
                _held_twice(told, each, call, answer[0])
                break


def _held_twice(told: Told, holder: tuple[Hold, Story], other: Call, story: Story) -> None:
    hold, held = holder
    told.counts["two live claims in a group"] += 1
    text = f"{describe(hold.claim)} holds {held.id} until {hold.end:.3f}, and {describe(other)} has got {story.id}"
    told.violated(ONE_CLAIM, text, story)


def _waits(told: Told, story: Story) -> None:
    """It is not handed out before its delay is over."""
    for call, _ in story.deliveries():
        if story.delay and call.returned < story.begun + story.delay - SLACK:
            told.violated(DELAYED, f"until {story.begun + story.delay:.3f} at least, see {describe(call)}", story)


def _listed_in_order(told: Told, walk: str, calls: Sequence[Call]) -> None:
    """A walk meets the messages of each group in the order in which they were posted."""
    latest: dict[str, Story] = {}  # of those met, the one that was posted last
    within: dict[tuple[str, int], int] = defaultdict(lambda: -1)  # the highest number met, by group and post
    met: set[str] = set()
    for call in calls:
        for seen in call.seen:
            story = told.story_of(call.queue, seen)
            if story is None or story.group is None or seen.id in met:
                continue
            met.add(seen.id)
            before = latest.get(story.group)
            post = story.group, id(story.posts[0])
            if (before and story.precedes(before)) or (story.safe and within[post] > story.number):
                told.counts["listed out of order in a group"] += 1
                told.violated(LISTED_IN_ORDER, f"{walk} saw a later one before, see {describe(call)}", story)
            if before is None or story.begun > before.begun:
                latest[story.group] = story
            within[post] = max(within[post], story.number)

