"""What the core raises; gateway/web/errors.py maps each class to a status."""

from __future__ import annotations


class CoreError(Exception):
    """Base of all core errors. ``title`` and ``description`` are for the client's eyes."""

    title = "Error"

    def __init__(self, description: str, title: str | None = None):
        super().__init__(description)
        self.description = description
        if title is not None:
            self.title = title


class InvalidInput(CoreError):
    """The client sent something that breaks a rule; the description says which."""

    title = "Invalid API request"


class NotFound(CoreError):
    """There is no such thing."""

    title = "Not found"


class Forbidden(CoreError):
    """The thing is somebody else's, for now or for good."""

    title = "Forbidden"


class QuotaExceeded(Forbidden):
    """The project has as many of these as it may have."""

    title = "Quota exceeded"


class TooFast(CoreError):
    """The project is over one of its rates; ``retry_after`` is in whole seconds."""

    title = "Too many requests"

    def __init__(self, description: str, retry_after: int = 1):
        super().__init__(description)
        self.retry_after = retry_after


class Conflict(CoreError):
    """The request does not fit the state of the thing."""

    title = "Conflict"


class StillRunning(CoreError):
    """Another request does the same just now; ``retry_after`` is in whole seconds."""

    title = "Conflict"

    def __init__(self, description: str, retry_after: int = 1):
        super().__init__(description)
        self.retry_after = retry_after


class KeyReused(CoreError):
    """An Idempotency-Key came with another request before."""

    title = "Unprocessable content"


class Busy(CoreError):
    """The work could not be finished in time; worth another try."""

    title = "Service unavailable"
