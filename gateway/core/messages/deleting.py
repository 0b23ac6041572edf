"""Deleting messages, by their ids or all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gateway.config.limits import Limits
from gateway.core.errors import Forbidden, InvalidInput
from gateway.core.ids import made_at, remembered
from gateway.core.messages.seeking import SOUGHT_AT_MOST, Seeking
from gateway.core.queues.directory import Directory
from gateway.core.queues.info import QueueInfo
from gateway.observe.metrics import MESSAGES
from storage.model import Message


class Deleting:
    """Removes messages, wherever they are: landed, in the broker, or on the way."""

    def __init__(self, directory: Directory, seeking: Seeking, limits: Limits):
        self._directory = directory
        self._seeking = seeking
        self._limits = limits

    def delete(self, info: QueueInfo, id_: str, claim_id: str | None) -> bool:
        """Delete one message; False when there is none.

        Raises Forbidden when somebody's live claim is in the way, InvalidInput when the claim given is over.
        """
        if claim_id is None:
            held, everything = self.delete_many(info, [id_], None)
            if held:
                raise Forbidden(f"Message {id_} is claimed; give its claim_id to delete it")
            return everything
        if info.pool.store.landed.delete_claimed(info.key, [id_], [claim_id], remembered([id_], info.pool.store.now)):
            MESSAGES.labels("deleted").inc()
            if info.settings.fifo:  # what comes after it in its group may be handed out now
                info.pool.arrivals.tell(info.project, info.name)
            return True
        # Nothing was deleted: find out why (rarely needed, so not asked before).
        found: Collection[Message] = info.pool.store.landed.get_messages(info.key, [id_])
        if not found:
            found = self._seeking.seek(info, [id_], SOUGHT_AT_MOST)[0].values()
        if not found and self._bury(info, self._seeking.may_wait(info, [id_])):
            found = info.pool.store.landed.get_messages(info.key, [id_])
        for message in found:
            if message.claim is not None and message.hidden_until > info.pool.store.now():
                raise Forbidden(f"Message {id_} is claimed by another claim")
            raise InvalidInput(f"Message {id_} is not claimed by that claim, or the claim has expired")
        # If it is anywhere it waits far from the front, or another gateway is landing it: anybody may delete a message
        # that nobody has claimed, and so it is deleted.
        return False

    def delete_many(
        self, info: QueueInfo, ids: Sequence[str], claim_ids: Sequence[str] | None
    ) -> tuple[set[str], bool]:
        """Delete those of the messages that no live claim holds, but one of ``claim_ids``.

        Returns those that stay, and whether all of the others were there.
        """
        ids = list(dict.fromkeys(ids))
        again = remembered(ids, info.pool.store.now)
        deleted = info.pool.store.landed.delete_claimed(info.key, ids, claim_ids, again) if claim_ids else 0
        deleted += info.pool.store.landed.delete_unclaimed(info.key, ids, again)
        held: set[str] = set()
        if deleted < len(ids):
            held = {message.id for message in info.pool.store.landed.get_messages(info.key, ids)}
            found, held_since = self._delete_waiting(info, [id_ for id_ in ids if id_ not in held])
            deleted += found
            held |= held_since
        MESSAGES.labels("deleted").inc(deleted)
        if info.settings.fifo and deleted:
            info.pool.arrivals.tell(info.project, info.name, deleted)
        return held, deleted + len(held) >= len(ids)

    def _delete_waiting(self, info: QueueInfo, ids: Sequence[str]) -> tuple[int, set[str]]:
        """Delete messages that may still wait in the broker: how many were, and those that are claimed by now.

        What does not come by soon gets a tombstone, so that it is dropped when it does.
        """
        found, _ = self._seeking.seek(info, ids, self._limits.max_messages_per_page)
        now = info.pool.store.now()
        held = {id_ for id_, message in found.items() if message.claim is not None and message.hidden_until > now}
        doomed = found.keys() - held
        doomed |= self._bury(info, self._seeking.may_wait(info, ids) - found.keys())
        again = remembered([*doomed], info.pool.store.now)
        deleted = info.pool.store.landed.delete_unclaimed(info.key, list(doomed), again) if doomed else 0
        if deleted < len(doomed):
            held |= {message.id for message in info.pool.store.landed.get_messages(info.key, list(doomed))}
        return deleted, held

    def _bury(self, info: QueueInfo, ids: Collection[str]) -> set[str]:
        """Have messages dropped when they land: from the backlog, or from the hands of another gateway that is just
        landing them. Returns those that have landed meanwhile.
        """
        if not ids:
            return set()
        lifetime = self._limits.max_message_ttl * 1000
        return info.pool.store.landed.tombstone(info.key, {id_: (made_at(id_) or 0) + lifetime for id_ in ids})

    def purge(self, project: str, name: str) -> None:
        """Remove all messages of a queue."""
        self._directory.on(project, name, self._purge)

    def _purge(self, info: QueueInfo) -> bool:
        """Empty broker and side-store while nobody lands free messages."""
        with info.pool.landing.interrupted(info):
            if info.reads.has_backlog:
                info.bridge.purge(info.broker)
            info.pool.store.landed.purge(info.key)
        info.pool.publishing.forget(info.key)
        return True
