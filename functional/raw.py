"""HTTP by hand, for requests that no decent client would send."""

import contextlib
import http.client
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Seconds without a byte from the server before a test fails.
TIMEOUT = 10.0


@dataclass(frozen=True)
class RawResponse:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def exchange(url: str, request: bytes, timeout: float = TIMEOUT, half_close: bool = False) -> RawResponse:
    """Send `request` as it is to the server at `url` and read one response.

    With `half_close` the server sees the end of the input after the last byte. ConnectionError if it hangs up
    without a response, TimeoutError if it stays silent for `timeout` seconds.
    """
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout) as connection:
        with contextlib.suppress(OSError):  # it may have answered and hung up before the last byte
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        method = request.split(b" ", 1)[0].decode("latin-1")  # a response to HEAD has no body
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        return RawResponse(response.status, response.headers, response.read())
