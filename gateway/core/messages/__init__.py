"""What clients do with messages, each verb in a module of its own."""

from __future__ import annotations

from gateway.config.limits import Limits
from gateway.core.dead_letters import DeadLetters
from gateway.core.ids import IdMaker
from gateway.core.landing import Landing
from gateway.core.messages.deleting import Deleting
from gateway.core.messages.popping import Popping
from gateway.core.messages.posting import Posting
from gateway.core.messages.reading import Reading
from gateway.core.messages.seeking import Seeking
from gateway.core.publishing import Publishing
from gateway.core.queues.directory import Directory
from gateway.core.sealing import Sealing
from storage.base import SideStore


class Messages:
    """The messages of all queues. Each attribute is a method of the class for its verb."""

    def __init__(
        self,
        store: SideStore,
        directory: Directory,
        publishing: Publishing,
        landing: Landing,
        dead_letters: DeadLetters,
        limits: Limits,
        ids: IdMaker,
        sealing: Sealing,
    ):
        seeking = Seeking(store, landing, limits)
        reading = Reading(store, directory, publishing, landing, sealing, seeking)
        deleting = Deleting(store, directory, publishing, landing, seeking, limits)
        self.post = Posting(store, directory, publishing, limits, ids, sealing).post
        self.list = reading.list
        self.get = reading.get
        self.stats = reading.stats
        self.delete = deleting.delete
        self.delete_many = deleting.delete_many
        self.purge = deleting.purge
        self.pop = Popping(store, directory, landing, dead_letters, sealing).pop
