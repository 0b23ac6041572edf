"""What a side-store raises; vendor exceptions never leave a driver."""


class StoreError(Exception):
    """Base of all side-store errors."""


class StoreUnavailable(StoreError):
    """The side-store did not answer, or refused, within its timeout; the outcome may be unknown."""


class QueueGone(StoreError):
    """The queue was deleted, and perhaps created again since; nothing was stored under the key that was given."""


class LeaseLost(StoreError):
    """Another gateway has taken the queue's landing lease; nothing was stored."""


class StoreMisconfigured(StoreError):
    """The URI or an option of the side-store can't be used; the text says which and why."""
