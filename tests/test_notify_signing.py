"""Deliveries are signed as Standard Webhooks says: its own library verifies them."""

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.core.subscriptions import webhook_secrets
from gateway.notify.signing import headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_vector_of_the_reference_libraries() -> None:
    assert headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [SECRET]) == [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]


@pytest.mark.parametrize("secret", [
    "whsec_" + base64.b64encode(key).decode() for key in (bytes(range(32)), b"\xff\x00" * 32)
])
def test_reference_library_verifies(secret: str) -> None:
    now, body = int(time.time()), '{"text": "Grüße"}'.encode()
    signed = dict(headers("0196f0a0-0000-7000-8000-000000000000", now, body, [secret]))
    assert Webhook(secret).verify(body, signed) == {"text": "Grüße"}
    for wrong in (body + b" ", body.replace(b"t", b"s", 1)):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(wrong, signed)
    for name, value in (("webhook-timestamp", str(now + 1)), ("webhook-id", "0")):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, signed | {name: value})


def test_every_valid_secret_signs_newest_first() -> None:
    new, old, other = (webhook_secrets.make() for _ in range(3))
    now = int(time.time())
    signed = dict(headers("a", now, b"{}", [new, old]))
    each = [dict(headers("a", now, b"{}", [secret]))["webhook-signature"] for secret in (new, old)]
    assert signed["webhook-signature"] == " ".join(each)
    for secret in (new, old):
        Webhook(secret).verify(b"{}", signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(b"{}", signed)


def test_each_attempt_is_signed_anew() -> None:
    first, second = (dict(headers("a", when, b"{}", [SECRET])) for when in (1, 2))
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-signature"] != second["webhook-signature"]


def test_without_a_secret_there_is_no_signature() -> None:
    assert headers("a", 1, b"", []) == [("webhook-id", "a"), ("webhook-timestamp", "1")]


def test_malformed_secret_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="padded base64") as caught:
        headers("a", 1, b"", ["whsec_s3cret"])
    assert "s3cret" not in str(caught.value)
