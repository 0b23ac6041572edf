"""Pre-signed requests: no signature holds for anything but what was signed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.access.signing import EXPIRES, covers, sign
from tests.fuzz.fuzzing import fuzzed, headers

KEY = "secret"
LATER = (datetime.now(UTC) + timedelta(days=1)).strftime(EXPIRES)

paths = st.lists(
    st.tuples(st.sampled_from(["q", "r"]), st.sampled_from(["messages", "claims"])).map(
        lambda pair: f"/v2/queues/{pair[0]}/{pair[1]}"
    ),
    min_size=1, max_size=3,
)
methods = st.lists(st.sampled_from(["GET", "POST", "DELETE"]), min_size=1, max_size=3)
projects = st.text(r"\n/PGET", min_size=1, max_size=20) | st.sampled_from([r"GET\nvictim", r"POST\nvictim", "victim"])


@fuzzed
@given(headers, headers, headers, headers, headers, headers, headers)
def test_nothing_unsigned_holds(
    signature: str, some_paths: str, some_methods: str, project: str, expires: str, method: str, path: str
) -> None:
    assert covers(
        KEY, signature, some_paths.split(","), some_methods.split(","), project, expires, method, path
    ) is False


@fuzzed
@given(paths, methods, projects, st.data())
def test_a_signed_text_has_one_reading(
    signed_paths: list[str], signed_methods: list[str], project: str, data: st.DataObject
) -> None:
    signature = sign(KEY, signed_paths, signed_methods, project, LATER)
    pieces = rf"{','.join(sorted(signed_paths))}\n{','.join(sorted(signed_methods))}\n{project}\n{LATER}".split(r"\n")
    assume(len(pieces) >= 4)
    cuts = sorted(data.draw(st.lists(st.integers(1, len(pieces) - 1), min_size=3, max_size=3, unique=True)))
    parts = [r"\n".join(pieces[start:end]) for start, end in zip([0, *cuts], [*cuts, len(pieces)], strict=True)]
    read_paths, read_methods, read_project, expires = parts
    for method in ("GET", "POST", "DELETE"):
        for path in ("/v2/queues/q/messages", "/v2/queues/q/claims", "/v2/queues/r/claims"):
            if covers(
                KEY, signature, read_paths.split(","), read_methods.split(","), read_project, expires, method, path
            ):
                assert (read_project, expires) == (project, LATER)
                assert path in signed_paths and method in signed_methods


def test_a_project_is_no_method_of_another() -> None:
    """A project named like the rest of a signed text could once sign for another project."""
    signature = sign(KEY, ["/v2/queues/q/claims", "/v2/queues/q/messages"], ["GET"], r"POST\nvictim", LATER)
    read = ["/v2/queues/q/claims", r"/v2/queues/q/messages\nGET"]
    assert sign(KEY, read, ["POST"], "victim", LATER) == signature
    assert not covers(KEY, signature, read, ["POST"], "victim", LATER, "POST", "/v2/queues/q/claims")


@fuzzed
@given(st.integers(0, 255), st.integers(1, 255))
def test_a_changed_bit_breaks_a_signature(place: int, change: int) -> None:
    signature = bytearray(sign(KEY, ["/p"], ["GET"], "p", LATER), "ascii")
    signature[place % 64] ^= change
    altered = signature.decode("latin-1")
    assert not covers(KEY, altered, ["/p"], ["GET"], "p", LATER, "GET", "/p")


@pytest.mark.parametrize("changed", ["", " ", "0" * 64, "A" * 64, "\xff" * 64, "\0" * 64])
def test_no_constant_is_a_signature(changed: str) -> None:
    signature = sign(KEY, ["/p"], ["GET"], "p", LATER)
    assert not covers(KEY, changed, ["/p"], ["GET"], "p", LATER, "GET", "/p")
    assert not covers(KEY, signature + changed, ["/p"], ["GET"], "p", LATER, "GET", "/p") or changed == ""
    assert not covers(KEY, signature.upper(), ["/p"], ["GET"], "p", LATER, "GET", "/p")
