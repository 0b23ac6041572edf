"""One request and its answer, as libcurl makes it: what it asks before it connects and sends, and what it reads."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import pycurl

from gateway.notify.connecting import Judge
from gateway.notify.settings import HttpSettings
from gateway.notify.transfers import KEPT_FOR

#: Bytes of the status line and headers of an answer; of one line of them; and how many headers.
LARGEST_HEAD = 16 * 1024
LARGEST_LINE = 8 * 1024
MOST_HEADERS = 100

#: Bytes of an answer's body that are kept for the owner of the subscription.
KEPT_BODY = 1024

#: Media types, beside text/…, whose body is shown to people.
TEXTUAL = ("application/json", "application/problem+json", "application/xml", "application/x-www-form-urlencoded")

#: Headers that libcurl or its Python interface would add, and how to tell it not to.
ADDED = {"accept": "Accept:", "content-type": "Content-Type:", "expect": "Expect:", "user-agent": "User-Agent:"}


#: Where certificates of authorities are: options of libcurl, None for what it must not use by itself.
Authorities = Sequence[tuple[int, str | None]]


class Exchange:
    """A handle of libcurl for one request at a time, and what has become of the present one.

    ``judge``: which addresses may be used. ``excepted``: one of them is allowed as an exception, so tenants must not
    see what it answers. ``refused``: an address was, and ``opened``: another one was not. ``too_late``: the request was
    not sent, as it must not begin any more. ``status``: 0 until the whole head has come; ``headers`` have names in
    lower case. ``too_large``: the head was. ``is_kept``: the connection may be used again. ``kept``: of the body.
    """

    def __init__(self, settings: HttpSettings, authorities: Authorities, judge: Judge):
        self._judge = judge
        self._by_proxy = settings.proxy is not None
        self._most = settings.max_response_size
        self._method = "POST"
        self._url = ""
        self._led: Sequence[str] = ()
        curl = self.curl = pycurl.Curl()
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.PROXY, settings.proxy or ""),  # empty: not that of the environment either
            (pycurl.NOPROXY, ""),
            (pycurl.MAXAGE_CONN, KEPT_FOR),
            (pycurl.DNS_CACHE_TIMEOUT, KEPT_FOR),
            (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
            (pycurl.OPENSOCKETFUNCTION, self._on_socket),
            (pycurl.PREREQFUNCTION, self._on_connected),
            (pycurl.HEADERFUNCTION, self._on_header),
            (pycurl.WRITEFUNCTION, self._on_body),
        ):
            curl.setopt(option, value)
        for option, place in authorities:
            if place is None:
                curl.unsetopt(option)
            else:
                curl.setopt(option, place)
        self.may_begin: Callable[[], bool] = lambda: False
        self.begin(self.may_begin)

    def begin(self, may_begin: Callable[[], bool]) -> None:
        """Forget what was. ``may_begin`` is asked right before the request is sent."""
        self.may_begin = may_begin
        self.excepted = self.refused = self.opened = self.too_late = self.too_large = self.is_kept = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.kept = b""
        self._lines: list[bytes] = []
        self._is_sent = False
        self._head_size = self._body_size = 0
        self._is_textual = False

    def prepare(self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Set what is to be sent. Raises ValueError for headers that would be more than one line."""
        curl = self.curl
        if url != self._url:
            curl.setopt(pycurl.URL, url)
            self._url = url
        lines = [f"{name}: {value}" if value and not value.isspace() else f"{name};" for name, value in headers]
        names = {name.lower() for name, _ in headers}
        lines += [line for name, line in ADDED.items() if name not in names]
        text = "\n".join(lines)
        if text.count("\n") != len(lines) - 1 or "\r" in text or "\0" in text:
            raise ValueError("a header has a line break")
        curl.setopt(pycurl.HTTPHEADER, text.encode().split(b"\n"))
        curl.setopt(pycurl.POSTFIELDS, body)
        if method != self._method:
            curl.setopt(pycurl.CUSTOMREQUEST, method)
            self._method = method

    def limit(self, connecting: float, all_of_it: float) -> None:
        """Seconds for connecting, and for all of it."""
        self.curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(connecting * 1000)))
        self.curl.setopt(pycurl.TIMEOUT_MS, max(1, int(all_of_it * 1000)))

    def lead(self, host: str, port: int, addresses: Sequence[str]) -> None:
        """The addresses of the host, if a connection is made."""
        if addresses is not self._led:
            self.curl.setopt(pycurl.RESOLVE, [f"+{host}:{port}:{','.join(addresses)}"])
            self._led = addresses

    def judged(self, address: str, port: int) -> bool:
        """May this address be used? It is noted if that is an exception."""
        verdict = self._judge(address, port)
        if verdict.excepted:
            self.excepted = True
        return verdict.allowed

    # -- what libcurl calls -------------------------------------------------------------------------------------

    def _on_socket(self, purpose: int, wanted: Any) -> Any:
        """A socket is needed, to be connected to an address."""
        if not self._by_proxy and not self.judged(wanted.addr[0], wanted.addr[1]):
            self.refused = True
            return pycurl.SOCKET_BAD
        self.opened = True
        return socket.socket(wanted.family, wanted.socktype, wanted.protocol)

    def _on_connected(self, address: str, own: str, port: int, own_port: int) -> int:
        """There is a connection, a new or a kept one, and the request is about to be sent."""
        if not self._by_proxy and not self.judged(address, port):
            self.refused, self.opened = True, False
            return pycurl.PREREQFUNC_ABORT
        if not self.may_begin():
            self.too_late = True
            return pycurl.PREREQFUNC_ABORT
        self._is_sent = True
        return pycurl.PREREQFUNC_OK

    def _on_header(self, line: bytes) -> int | None:
        """A line of a head, or of the trailers; the last line of a head is empty. There may be several of 1xx."""
        self._head_size += len(line)
        if len(line) > LARGEST_LINE or self._head_size > LARGEST_HEAD or len(self._lines) > MOST_HEADERS + 1:
            self.too_large = not self.status
            return 0
        if self.status or not self._is_sent:  # before the request, it is the answer of a proxy that is to connect us
            return None
        self._lines.append(line)
        if line in (b"\r\n", b"\n"):
            self._read_head()
        return None

    def _read_head(self) -> None:
        lines, self._lines = self._lines, []
        version, _, rest = lines[0].partition(b" ")
        status = int(rest[:3]) if rest[:3].isdigit() else 0
        if status < 200:
            return
        headers: dict[str, str] = {}
        for line in lines[1:-1]:
            name, _, value = line.decode(errors="replace").partition(":")
            headers.setdefault(name.strip().lower(), value.strip())
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self._is_textual = kind.startswith("text/") or kind in TEXTUAL
        self.is_kept = version == b"HTTP/1.1" and "close" not in headers.get("connection", "").lower()
        self.headers = headers
        self.status = status

    def _on_body(self, piece: bytes) -> int | None:
        if self._is_textual and self._body_size < KEPT_BODY:
            self.kept += piece[:KEPT_BODY - self._body_size]
        self._body_size += len(piece)
        return 0 if self._body_size >= self._most else None  # 0 ends the transfer and its connection

    def close(self) -> None:
        """Nothing is under way any more."""
        self.curl.close()
