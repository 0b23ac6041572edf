"""Sealed bodies."""

import pytest

from gateway.core.core import read_key
from gateway.core.seal import KEY_SIZE, NONCE_SIZE, Seal

KEY = bytes(range(KEY_SIZE))
BODY = b'{"secret": 1}'


@pytest.mark.parametrize("body", [b"", BODY, b"x" * 2**20], ids=["empty", "short", "1-MiB"])
def test_sealed_body_opens_again(body: bytes) -> None:
    seal = Seal(KEY)
    assert seal.open(seal.close(body, "context"), "context") == body


def test_sealed_body_shows_nothing_and_differs_each_time() -> None:
    seal = Seal(KEY)
    one, other = seal.close(BODY, "context"), seal.close(BODY, "context")
    assert one != other
    assert BODY not in one


def test_other_key_opens_nothing() -> None:
    with pytest.raises(ValueError, match="not sealed with this key"):
        Seal(bytes(KEY_SIZE)).open(Seal(KEY).close(BODY, "context"), "context")


def test_other_context_opens_nothing() -> None:
    """A sealed body that is copied to another message or project stays closed."""
    seal = Seal(KEY)
    with pytest.raises(ValueError, match="not sealed with this key"):
        seal.open(seal.close(BODY, "project/one"), "project/two")


@pytest.mark.parametrize("position", [0, NONCE_SIZE, -1])
def test_changed_body_does_not_open(position: int) -> None:
    seal = Seal(KEY)
    sealed = bytearray(seal.close(BODY, "context"))
    sealed[position] ^= 1
    with pytest.raises(ValueError, match="not sealed with this key"):
        seal.open(bytes(sealed), "context")


@pytest.mark.parametrize("sealed", [b"", b"x", bytes(NONCE_SIZE), bytes(NONCE_SIZE + 15)])
def test_body_that_is_too_short_does_not_open(sealed: bytes) -> None:
    with pytest.raises(ValueError, match=".+"):
        Seal(KEY).open(sealed, "context")


def test_key_is_read_from_base64() -> None:
    assert read_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=") == KEY


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("AAEC", "3 bytes"), ("not base64!", "not base64"), ("ü", "base64|ASCII")],
)
def test_key_that_is_none_is_refused_without_showing_it(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        read_key(text)
    assert text not in str(caught.value)
