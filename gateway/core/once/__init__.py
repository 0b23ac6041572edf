"""Publishing once: a post that is sent again, by a client that did not get the answer, enqueues nothing a second time.

A client names a request by the header Idempotency-Key, or in a queue with ``_fifo`` a message by its ``dedup_id``. Both
are recorded in the side-store of the catalogue with the ids of the messages, before these are published (``keys.py``,
``dedup.py``). Once the broker has confirmed the messages that is recorded, too, and whoever comes again gets the same
ids. If it is not known whether they were enqueued, they are published again under the same ids, and land once: landing
leaves out what has landed, and what was deleted leaves a tombstone, as its id says (``gateway/core/ids.py``).

The store decides between two requests that do the same at once: of several only one records a key, and each change of
what is recorded names the version that it has seen.
"""
