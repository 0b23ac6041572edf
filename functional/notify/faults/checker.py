"""Was everybody told? Judged from what producers, owners and receivers saw, and from nothing else."""

from __future__ import annotations

import base64
import hmac
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from functional.faults.checker import IN_HAND, SENT_AGAIN
from functional.faults.history import POST, Call
from functional.notify.faults.history import PAUSE, RESUME, Attempt, NotifyHistory, Subscribed
from functional.notify.faults.stories import NEVER, Duty, Posted, Stories

#: The rules.
TOLD = "who is subscribed is told of each confirmed message"
POSTED = "nobody is told of what was not posted"
ONE_ID = "all attempts for a message have its id"
SIGNED = "each attempt is signed"
HEEDED = "no attempt begins after the answer to a delete, a pause or an unsubscribe"
BOUNDED = "no more attempts at once than the subscription allows"
EXPIRED = "nobody is told of what has expired"
DESIGNED = "only designed answers"

#: Seconds by which clocks may differ, and by which a receiver may be late to note what has come.
CLOCKS, LATE = 0.5, 2.0

#: Faults that let something arrive late which had begun before.
PAUSED = "notifier paused"

#: Faults of what does not deliver, which are hardly the cause of what is delivered twice.
GATEWAY = "gateway"


@dataclass(frozen=True)
class Violation:
    """A promise that was broken, and ``events``: all that is known of it."""

    rule: str
    text: str
    events: Sequence[str] = ()


@dataclass
class Report:
    """The verdict on a run. ``duplicates``: deliveries that came again, by the cause."""

    counts: Counter[str]
    duplicates: Counter[str]
    violations: list[Violation]

    @property
    def good(self) -> bool:
        """Was every promise kept?"""
        return not self.violations

    def lines(self) -> Iterator[str]:
        """For people: counts, then every violation with its story."""
        yield ", ".join(f"{name} {count}" for name, count in self.counts.items())
        for cause, count in self.duplicates.most_common():
            yield f"delivered again, {cause}: {count}"
        for violation in self.violations:
            yield f"VIOLATION: {violation.rule}: {violation.text}"
            yield from (f"    {event}" for event in violation.events)


def check(history: NotifyHistory) -> Report:
    """Judge a run that was over, and whose dead letters were listed, at ``history.looked``."""
    return _Check(history).report()


class _Check:
    def __init__(self, history: NotifyHistory) -> None:
        self.history = history
        self.stories = Stories(history)
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()

    def report(self) -> Report:
        stories = self.stories
        for attempt in stories.foreign:
            self._violated(POSTED, attempt.body[:200], [attempt])
        for (name, key), attempts in stories.told.items():
            self._of_one_message(stories.subscriptions[name], stories.messages[key], attempts)
        for duty in stories.duties():
            self._not_lost(duty)
        by_subscription: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in stories.attempts:
            by_subscription[attempt.subscription].append(attempt)
        for name, attempts in by_subscription.items():
            subscription = stories.subscriptions[name]
            self._signed(subscription, attempts)
            self._heeded(subscription, attempts)
            self._bounded(subscription, attempts)
        self._answers()
        self._count()
        return Report(self.counts, self.duplicates, self.violations)

    def _violated(self, rule: str, text: str, attempts: Sequence[Attempt] = (), post: Call | None = None) -> None:
        events = [(post.invoked, f"posted until {post.returned:.3f}: {post.status}")] if post else []
        events += [(attempt.at, describe(attempt)) for attempt in attempts]
        since = min((at for at, _ in events), default=NEVER)
        events += [
            (fault.begun, f"FAULT {fault.kind} {fault.victim} until {fault.mended:.3f}")
            for fault in self.history.faults if fault.mended + IN_HAND > since
        ]
        for name in {attempt.subscription for attempt in attempts}:
            events += [
                (change.invoked, f"{change.kind} until {change.returned:.3f}: {change.status}")
                for change in self.stories.subscriptions[name].changes
            ]
        self.violations.append(Violation(rule, text, [f"{at:9.3f} {event}" for at, event in sorted(events)]))

    # -- one attempt, one message -------------------------------------------------------------------------------

    def _signed(self, subscription: Subscribed, attempts: list[Attempt]) -> None:
        key = base64.b64decode(subscription.secret.removeprefix("whsec_"))
        for attempt in attempts:
            text = f"{attempt.webhook_id}.{attempt.timestamp}.{attempt.body}".encode()
            right = f"v1,{base64.b64encode(hmac.digest(key, text, 'sha256')).decode()}"
            if attempt.signature != right:
                self._violated(SIGNED, f"{attempt.signature} does not verify", [attempt])

    def _of_one_message(self, subscription: Subscribed, message: Posted, attempts: list[Attempt]) -> None:
        ids = {attempt.webhook_id for attempt in attempts} | ({message.id} if message.id else set())
        if len(ids) > 1:
            self._violated(ONE_ID, f"{message.key} to {subscription.name}: {ids}", attempts, message.post)
        end = message.post.returned + message.post.ttl + CLOCKS
        if any(attempt.stamped > end for attempt in attempts):
            self._violated(EXPIRED, f"{message.key} to {subscription.name} after {end:.3f}", attempts, message.post)
        taken = sorted((attempt for attempt in attempts if attempt.taken), key=lambda attempt: attempt.at)
        begun = min(attempt.at for attempt in attempts)
        for again in taken[1:]:
            self.duplicates[self._cause(message, begun, again)] += 1

    def _cause(self, message: Posted, begun: float, again: Attempt) -> str:
        """``begun``: when the first attempt came, whose notifier may have been paused with it since then."""
        since = begun - self.history.timeout
        faults = [
            fault for fault in self.history.faults if fault.begun < again.at and fault.mended + IN_HAND > since
        ]
        if faults:
            return max(faults, key=lambda fault: (not fault.kind.startswith(GATEWAY), fault.begun)).kind
        return "posted slowly" if message.post.returned - message.post.invoked > SENT_AGAIN else "without a fault"

    def _not_lost(self, duty: Duty) -> None:
        message = duty.message
        if duty.delivered:
            self.counts["delivered"] += 1
        elif duty.buried:
            self.counts["dead letters"] += 1
        elif message.post.invoked + message.post.ttl - CLOCKS < self.history.looked:
            self.counts["expired"] += 1
        else:
            self.counts["lost"] += 1
            text = f"{message.id}, number {message.number} of {message.post.client}, to {duty.subscription.name}"
            self._violated(TOLD, text, duty.attempts, message.post)

    # -- one subscription ---------------------------------------------------------------------------------------

    def _heeded(self, subscription: Subscribed, attempts: list[Attempt]) -> None:
        for start, end in quiet(subscription):
            for attempt in attempts:
                begun_inside = attempt.stamped > start + CLOCKS and attempt.stamped + 1 < end
                late = start + self.history.timeout + LATE < attempt.at < end and not self._held_up(start, attempt.at)
                if begun_inside or late:
                    self._violated(HEEDED, f"{subscription.name} was quiet {start:.3f}-{end:.3f}", [attempt])

    def _held_up(self, since: float, until: float) -> bool:
        """May an attempt that had begun have been held up by a pause of its notifier?"""
        return any(
            fault.kind.startswith(PAUSED) and fault.begun < until and since < fault.mended + LATE
            for fault in self.history.faults
        )

    def _bounded(self, subscription: Subscribed, attempts: list[Attempt]) -> None:
        attempts = [each for each in attempts if not self._is_belated(each)]
        spans = [(each.at, min(each.ended or NEVER, each.at + self.history.timeout)) for each in attempts]
        under_way, most, at_most = 0, 0, 0.0
        for at, step in sorted([(begun, 1) for begun, _ in spans] + [(ended, -1) for _, ended in spans]):
            under_way += step
            if under_way > most:
                most, at_most = under_way, at
        if most > subscription.most:
            concerned = [
                each for each, (begun, ended) in zip(attempts, spans, strict=True) if begun <= at_most < ended
            ]
            self._violated(BOUNDED, f"{subscription.name} had {most}, and may have {subscription.most}", concerned)

    def _is_belated(self, attempt: Attempt) -> bool:
        """Was it sent after its time, since its notifier was paused when it had begun? Nobody can prevent that."""
        return attempt.at > attempt.stamped + 1 + self.history.timeout and self._held_up(attempt.stamped, attempt.at)

    # -- all of it ----------------------------------------------------------------------------------------------

    def _answers(self) -> None:
        for subscription in self.stories.subscriptions.values():
            for change in subscription.changes:
                if change.status not in (None, 204, 503):
                    self._violated(DESIGNED, f"{change.kind} of {subscription.name}: {change.status}")
        for call in self.stories.calls:
            if call.kind == POST and call.status not in (None, 201, 503):
                self._violated(DESIGNED, f"post to {call.queue}: {call.status} {call.error}")

    def _count(self) -> None:
        posts = [call for call in self.stories.calls if call.kind == POST]
        self.counts = Counter({
            "subscriptions": len(self.stories.subscriptions),
            "changes": sum(len(each.changes) for each in self.stories.subscriptions.values()),
            "posted": len(self.stories.messages),
            "confirmed": sum(len(call.ids) for call in posts),
            "attempts": len(self.stories.attempts),
            "refused or failed": sum(not attempt.taken for attempt in self.stories.attempts),
            "delivered": 0, "dead letters": 0, "expired": 0, "lost": 0,
        } | self.counts)


def quiet(subscription: Subscribed) -> Iterator[tuple[float, float]]:
    """When nothing may begin: since the answer to a change that forbids it until the request that allows it.

    An earlier request without an answer may still be obeyed later, so nothing is known after one that allows.
    """
    resumed = [change for change in subscription.changes if change.kind == RESUME]
    for change in subscription.changes:
        doubtful = any(not each.succeeded and each.invoked < change.invoked for each in resumed)
        if change.kind != RESUME and change.succeeded and not (change.kind == PAUSE and doubtful):
            later = (each.invoked for each in resumed if each.invoked > change.invoked)
            yield change.returned, min(later, default=NEVER)


def describe(attempt: Attempt) -> str:
    """An attempt in a line."""
    end = "open" if attempt.ended is None else f"{attempt.ended:.3f}"
    return (
        f"attempt {attempt.number} for {attempt.webhook_id} at {attempt.subscription}, begun {attempt.stamped:.0f}+,"
        f" until {end}: {attempt.status}"
    )
