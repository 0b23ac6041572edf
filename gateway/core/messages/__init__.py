"""What clients do with messages, each verb in a module of its own."""

from __future__ import annotations

from gateway.config.limits import Limits
from gateway.core.dead_letters import DeadLetters
from gateway.core.ids import IdMaker
from gateway.core.messages.deleting import Deleting
from gateway.core.messages.feeding import Feeding
from gateway.core.messages.popping import Popping
from gateway.core.messages.posting import Posting
from gateway.core.messages.reading import Reading
from gateway.core.messages.seeking import Seeking
from gateway.core.once.once import Once
from gateway.core.queues.directory import Directory
from gateway.core.sealing import Sealing


class Messages:
    """The messages of all queues. Each attribute is a method of the class for its verb."""

    def __init__(
        self, directory: Directory, dead_letters: DeadLetters, limits: Limits, ids: IdMaker, sealing: Sealing,
        once: Once,
    ):
        seeking = Seeking(limits)
        reading = Reading(directory, sealing, seeking)
        deleting = Deleting(directory, seeking, limits)
        self.post = Posting(directory, limits, ids, sealing, once).post
        self.list = reading.list
        feeding = Feeding(directory, reading)
        self.feed_start = feeding.start
        self.feed_page = feeding.page
        self.get = reading.get
        self.stats = reading.stats
        self.delete = deleting.delete
        self.delete_many = deleting.delete_many
        self.purge = deleting.purge
        self.pop = Popping(directory, dead_letters, sealing).pop
