"""The form of the secrets that deliveries are signed with."""

import base64

import pytest

from gateway.core.subscriptions import webhook_secrets


def test_new_secrets_are_32_random_bytes() -> None:
    first, second = webhook_secrets.make(), webhook_secrets.make()
    assert first != second and first == webhook_secrets.check(first)
    assert first.startswith("whsec_") and len(webhook_secrets.decode(first)) == 32


@pytest.mark.parametrize("size", [24, 25, 26, 64])
def test_key_is_the_decoded_bytes(size: int) -> None:
    key = bytes(range(200, 200 + size - 56)) if size > 56 else bytes(range(size))
    key = key.ljust(size, b"\xff")
    assert webhook_secrets.decode("whsec_" + base64.b64encode(key).decode()) == key


GOOD = base64.b64encode(b"s3cretkey" * 3).decode()


@pytest.mark.parametrize("secret", [
    None, 1, "", "whsec_", GOOD, "WHSEC_" + GOOD, "whsk_" + GOOD, "whsec_" + GOOD[:-1], "whsec_" + GOOD + "=",
    "whsec_" + GOOD + "\n", "whsec_ " + GOOD, "whsec_" + base64.b64encode(b"a" * 23).decode(),
    "whsec_" + base64.b64encode(b"a" * 65).decode(), "whsec_" + base64.b64encode(b"a" * 25).decode().rstrip("="),
    "whsec_" + base64.urlsafe_b64encode(b"\xff" * 27).decode(), "whsec_" + "ä" * 40, "whsec_" + "A" * 33 + "B==",
    "whsec_" + base64.b64encode(b"a" * 25).decode().replace("Q==", "R=="),
])
def test_bad_secret_is_refused_and_not_repeated(secret: object) -> None:
    for read in (webhook_secrets.check, webhook_secrets.decode):
        with pytest.raises(ValueError, match="must be whsec_ and the padded base64 of 24 to 64 bytes") as caught:
            read(secret)  # type: ignore[operator]
        assert GOOD not in str(caught.value)
