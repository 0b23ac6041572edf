"""Sealed bodies."""

import base64

import pytest

from gateway.core.seal import KEY_ID, KEY_SIZE, NONCE_SIZE, NotUnsealed, Seal, key_id, read_key, read_seal

KEY = bytes(range(KEY_SIZE))
BODY = b'{"secret": 1}'


@pytest.mark.parametrize("body", [b"", BODY, b"x" * 2**20], ids=["empty", "short", "1-MiB"])
def test_sealed_body_opens_again(body: bytes) -> None:
    seal = Seal(KEY)
    assert seal.unseal(seal.seal(body, "context"), "context")[1] == body


def test_sealed_body_shows_nothing_and_differs_each_time() -> None:
    seal = Seal(KEY)
    one, other = seal.seal(BODY, "context"), seal.seal(BODY, "context")
    assert one != other
    assert BODY not in one


def test_other_key_opens_nothing() -> None:
    with pytest.raises(NotUnsealed, match="none of the encryption keys"):
        Seal(bytes(KEY_SIZE)).unseal(Seal(KEY).seal(BODY, "context"), "context")


def test_other_context_opens_nothing() -> None:
    """A sealed body that is copied to another message or project stays closed."""
    seal = Seal(KEY)
    with pytest.raises(NotUnsealed, match="none of the encryption keys"):
        seal.unseal(seal.seal(BODY, "project/one"), "project/two")


@pytest.mark.parametrize("position", [0, NONCE_SIZE, -1])
def test_changed_body_does_not_open(position: int) -> None:
    seal = Seal(KEY)
    sealed = bytearray(seal.seal(BODY, "context"))
    sealed[position] ^= 1
    with pytest.raises(NotUnsealed, match="none of the encryption keys"):
        seal.unseal(bytes(sealed), "context")


@pytest.mark.parametrize("sealed", [b"", b"x", bytes(NONCE_SIZE), bytes(NONCE_SIZE + 15)])
def test_body_that_is_too_short_does_not_open(sealed: bytes) -> None:
    with pytest.raises(NotUnsealed):
        Seal(KEY).unseal(sealed, "context")


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


def test_key_ids_are_stable_and_tell_keys_apart() -> None:
    """They are in stored messages: another way to make them would leave those behind."""
    assert key_id(KEY) == "k5c1e0c2130065b9"
    assert key_id(bytes(KEY_SIZE)) != key_id(KEY)
    assert KEY_ID.match(key_id(KEY))


def test_what_is_sealed_with_an_earlier_key_opens() -> None:
    old, new, third = (bytes([number]) * KEY_SIZE for number in range(3))
    sealed = Seal(old).seal(BODY, "context")
    seal = Seal(new, [old])
    assert seal.unseal(sealed, "context", key_id(old)) == (key_id(old), BODY)
    assert seal.unseal(sealed, "context") == (key_id(old), BODY)
    assert Seal(third, [new]).unseal(seal.seal(BODY, "context"), "context") == (key_id(new), BODY)


def test_what_is_missing_and_what_is_damaged_are_told_apart() -> None:
    sealed = Seal(KEY).seal(BODY, "context")
    for seal, key in ((Seal(), ""), (Seal(), key_id(KEY)), (Seal(bytes(KEY_SIZE)), key_id(KEY))):
        with pytest.raises(NotUnsealed) as caught:
            seal.unseal(sealed, "context", key)
        assert not caught.value.damaged
    for seal, key in ((Seal(KEY), key_id(KEY)), (Seal(bytes(KEY_SIZE)), "")):
        with pytest.raises(NotUnsealed) as caught:
            seal.unseal(sealed[:-1], "context", key)
        assert caught.value.damaged


def test_seal_without_a_key_that_seals() -> None:
    text = base64.b64encode(KEY).decode()
    assert read_seal(None, []).key == "" and read_seal("", []).ring.keys == ()
    assert (read_seal(None, [text]).key, read_seal(None, [text]).ring.keys) == ("", (key_id(KEY),))
    assert read_seal(text, []).key == key_id(KEY)


def test_ring_is_that_of_the_same_keys_in_any_order() -> None:
    one, two = bytes(KEY_SIZE), KEY
    assert Seal(one, [two]).ring.id == Seal(two, [one]).ring.id != Seal(one).ring.id
