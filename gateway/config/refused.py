"""Errors that stop the start; the operator sees one line and no traceback."""

from __future__ import annotations

from oslo_config import cfg

from bridges.errors import BridgeMisconfigured
from gateway.observe.logs import printable
from gateway.observe.masking import without_password
from storage.errors import StoreMisconfigured


class CannotServe(Exception):
    """The service can't start; the text says why and what to do about it."""


#: Exceptions whose text is meant for the operator.
REFUSALS = (BridgeMisconfigured, CannotServe, StoreMisconfigured, ValueError, cfg.Error)


def reason(error: BaseException) -> str:
    """One line about an exception, without passwords. It begins with the class if that is not one of REFUSALS."""
    text = str(error) if isinstance(error, REFUSALS) else f"{type(error).__name__}: {error}"
    return printable(without_password(text))
