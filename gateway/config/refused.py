"""What a configuration is refused with before anything is served: one line for the operator, no traceback."""

from __future__ import annotations

from oslo_config import cfg

from bridges.errors import BridgeMisconfigured
from gateway.observe.logs import printable
from gateway.observe.masking import without_password
from storage.errors import StoreMisconfigured


class CannotServe(Exception):
    """The service can't start; the text says why and what to do about it."""


REFUSALS = (BridgeMisconfigured, CannotServe, StoreMisconfigured, ValueError, cfg.Error)


def reason(error: BaseException) -> str:
    """The one line about an exception, without passwords; unexpected ones are named."""
    text = str(error) if isinstance(error, REFUSALS) else f"{type(error).__name__}: {error}"
    return printable(without_password(text))
