"""Requests in pieces: whatever comes is read to the same end, however it is cut, and nothing is kept without bound."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from waitress.adjustments import Adjustments

from gateway.server.parser import Parser
from tests.fuzz.fuzzing import fuzzed

MAX_BODY = 300

#: What requests are made of, and what they are broken by.
PARTS = [
    b"GET", b"POST", b"HEAD", b"OPTIONS", b"get", b" ", b"  ", b"/", b"//", b"/v2/queues", b"?a=b", b"#", b"*", b"%2F",
    b"\xc3\xbc",
    b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"http://host", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"\x00",
    b"Host: a\r\n", b"Host: a", b"Content-Length: 3\r\n", b"Content-Length: 500\r\n", b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"X: y\r\n", b" folded\r\n", b"X" * 50, b":", b"3\r\nabc\r\n", b"0\r\n", b"0\r\n\r\n", b"1;a=b\r\nx\r\n", b"ff\r\n",
    b"abc",
    b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
]

streams = st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join) | st.binary(max_size=60)


def read(data: bytes, cuts: list[int]) -> list[Any]:
    """What the requests in it were understood as, up to the first that is refused."""
    adjustments = Adjustments(max_request_body_size=MAX_BODY)
    understood: list[Any] = []
    parser = Parser(adjustments)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in zip(edges, edges[1:], strict=False):
        piece = data[start:end]
        while piece:
            taken = parser.received(piece)
            assert 0 < taken <= len(piece)
            piece = piece[taken:]
            assert parser.buffered <= 20 * len(data) + 2000
            if not parser.completed:
                continue
            if parser.error is not None:
                return [*understood, parser.error.code]
            if not parser.empty:
                with parser.get_body_stream() as body:
                    assert len(content := body.read()) < MAX_BODY
                understood.append((parser.command, parser.request_uri, parser.path, content, parser.headers))
            parser.close()
            parser = Parser(adjustments)
    return understood


@fuzzed
@given(streams, st.lists(st.integers(min_value=0), max_size=20))
def test_cuts_make_no_difference(data: bytes, cuts: list[int]) -> None:
    assert read(data, cuts) == read(data, [])


@fuzzed
@given(streams)
def test_byte_by_byte_makes_no_difference(data: bytes) -> None:
    assert read(data, list(range(len(data)))) == read(data, [])
