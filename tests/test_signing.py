"""Pre-signed requests."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.access.signing import EXPIRES, covers, sign

KEY = "secret"
LATER = (datetime.now(UTC) + timedelta(days=1)).strftime(EXPIRES)
EARLIER = (datetime.now(UTC) - timedelta(seconds=1)).strftime(EXPIRES)

PATH = "/v2/queues/q/messages"


def holds(**changed: Any) -> bool:
    """Is a request covered whose signature was made for other values than `changed`?"""
    signed = {"paths": [PATH], "methods": ["GET"], "project": "p", "expires": LATER}
    signature = sign(KEY, **signed)
    request = {"key": KEY, "signature": signature, "method": "GET", "path": PATH} | signed | changed
    return covers(**request)


def test_signature_is_what_existing_clients_compute() -> None:
    text = rf"/v2/queues/q/claims,/v2/queues/q/messages\nGET,POST\np\n{LATER}"
    ours = sign(KEY, ["/v2/queues/q/messages", "/v2/queues/q/claims"], ["POST", "GET"], "p", LATER)
    assert ours == hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()


def test_signed_request_is_covered() -> None:
    assert holds()


def test_what_is_below_a_path_is_covered() -> None:
    assert holds(path=f"{PATH}/some-id")


@pytest.mark.parametrize(
    "path", [f"{PATH}x", "/v2/queues/q", "/v2/queues/other/messages", "/v2/queues/q/message", f"{PATH}?", "", "/"]
)
def test_other_paths_are_not(path: str) -> None:
    assert not holds(path=path)


@pytest.mark.parametrize(
    "changed",
    [{"method": "POST"}, {"method": "get"}, {"key": "other"}, {"signature": ""}, {"signature": "0" * 64},
     {"signature": "ü"}, {"project": "other"}, {"paths": [PATH, "/v2"]}, {"methods": ["GET", "POST"]},
     {"expires": (datetime.now(UTC) + timedelta(days=2)).strftime(EXPIRES)}],
)
def test_changed_request_is_not(changed: dict[str, Any]) -> None:
    assert not holds(**changed)


@pytest.mark.parametrize("expires", [EARLIER, "", "tomorrow", "2030-01-01", "2030-13-01T00:00:00", f"{LATER}Z"],
                         ids=["over", "empty", "a word", "a day", "no month", "with a zone"])
def test_signature_that_is_over_or_has_no_time_does_not_hold(expires: str) -> None:
    signature = sign(KEY, [PATH], ["GET"], "p", expires)
    assert not covers(KEY, signature, [PATH], ["GET"], "p", expires, "GET", PATH)


def test_empty_path_covers_nothing() -> None:
    signature = sign(KEY, [""], ["GET"], "p", LATER)
    assert not covers(KEY, signature, [""], ["GET"], "p", LATER, "GET", PATH)
