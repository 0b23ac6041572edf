"""Who gets which messages, when several claims of a FIFO queue are served together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from storage.model import Message

#: For claims of several messages more are looked at than can be claimed, this many times as many and at most so many
#: in all: then a claim takes several of few groups rather than one of each, and leaves other groups to other claims.
LOOK_FURTHER, LOOKED_AT = 4, 100


def looked_at(limits: Sequence[int]) -> int:
    """How many messages to look at for claims with these limits; one more than they can get tells whether that is all.
    """
    wanted = sum(limits) + 1
    return max(wanted, min(LOOK_FURTHER * wanted, LOOKED_AT)) if max(limits) > 1 else wanted


def share_out(messages: Sequence[Message], limits: Sequence[int]) -> list[list[Message]]:
    """Share messages, which are sorted by position, among claims with these limits; each share is sorted, too.

    A group goes to one claim. The claim with the fewest messages so far gets the next group, the first of several.
    """
    groups: dict[str, list[Message]] = {}
    for message in messages:
        groups.setdefault(message.group, []).append(message)
    shares: list[list[Message]] = [[] for _ in limits]
    for group in groups.values():
        room = [place for place, share in enumerate(shares) if len(share) < limits[place]]
        if not room:
            break
        place = min(room, key=lambda place: len(shares[place]))
        shares[place] += group[:limits[place] - len(shares[place])]
    for share in shares:
        share.sort(key=lambda message: message.seq)
    return shares


def not_after(messages: Sequence[Message], stopping: Collection[str]) -> list[Message]:
    """The messages without those whose ids are ``stopping``, and without what comes after one of these in its group."""
    stopped: set[str] = set()
    kept = []
    for message in messages:
        if message.id in stopping:
            stopped.add(message.group)
        elif message.group not in stopped:
            kept.append(message)
    return kept
