"""Who may open a WebSocket, and how all others are refused."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import bcrypt
import pytest

from gateway.access.exposure import check_exposure
from gateway.app import Gateway
from gateway.config.refused import CannotServe
from gateway.environ import DRAINING, HAND_OVER
from gateway.server import websocket_port

GOOD = {
    "HTTP_CONNECTION": "keep-alive, Upgrade", "HTTP_UPGRADE": "websocket",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==", "HTTP_SEC_WEBSOCKET_VERSION": "13",
}


class Site:
    """A gateway's applications; connections are handed over to nobody."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.handed_over: list[Any] = []
        self.has_room = True

    def ask(
        self, path: str = "/v2/websocket", own_port: bool = False, **changes: Any
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, document and headers; status 0 if the connection was handed over."""
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": path, "REQUEST_URI": path, "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "localhost", "SERVER_PORT": "80", "wsgi.url_scheme": "http", "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost", HAND_OVER: self._take, **GOOD, **changes,
        }
        environ = {name: value for name, value in environ.items() if value is not None}
        started: list[Any] = []
        app = self.gateway.websocket if own_port else self.gateway.app.wsgi_app
        body = b"".join(app(environ, lambda *answer: started.append(answer)))
        if not started:
            assert body == b""
            return 0, None, {}
        return int(started[0][0][:3]), json.loads(body) if body else None, dict(started[0][1])

    def _take(self, take: Any) -> bool:
        if self.has_room:
            self.handed_over.append(take)
        return self.has_room


@pytest.fixture
def make(configured: Callable[..., Any]) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make_site(**options: Any) -> Site:
        made.append(Site(Gateway(configured(notification={"deliver": False}, **options))))
        return made[-1]

    yield make_site
    for site in made:
        site.gateway.close()


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    return make()


def test_good_handshake_is_handed_over(site: Site) -> None:
    assert site.ask()[0] == 0
    assert len(site.handed_over) == 1
    for path in ("/", "/v2", "/any/path"):
        assert site.ask(path, own_port=True)[0] == 0


@pytest.mark.parametrize(("changes", "status"), [
    ({"HTTP_UPGRADE": None}, 400), ({"HTTP_UPGRADE": "h2c"}, 400), ({"HTTP_CONNECTION": "close"}, 400),
    ({"HTTP_SEC_WEBSOCKET_KEY": None}, 400), ({"HTTP_SEC_WEBSOCKET_KEY": "short"}, 400),
    ({"HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="}, 400),
    ({"HTTP_SEC_WEBSOCKET_VERSION": None}, 400), ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 400),
    ({"REQUEST_METHOD": "POST"}, 405), ({"SERVER_PROTOCOL": "HTTP/1.0"}, 505),
    ({"HTTP_CONNECTION": "\x00"}, 400), ({"HTTP_UPGRADE": "\xe9, ,"}, 400),
    ({"HTTP_ORIGIN": "https://evil.example"}, 403), ({"HTTP_ORIGIN": "null"}, 403), ({HAND_OVER: None}, 501),
    ({DRAINING: True}, 503),
], ids=str)
def test_handshake_is_refused_in_the_one_form(site: Site, changes: dict[str, Any], status: int) -> None:
    for own_port in (False, True):
        found, document, headers = site.ask(own_port=own_port, **changes)
        assert found == status and set(document) == {"title", "description"}
        assert headers["X-Openstack-Request-Id"].startswith("req-")
        assert headers.get("Sec-WebSocket-Version") == ("13" if status in (400, 400) else None)
        assert ("Retry-After" in headers) == (status == 503)
    assert not site.handed_over


def test_no_room_is_a_503(site: Site) -> None:
    site.has_room = False
    assert site.ask()[0] == 503
    site.gateway.drain()
    site.has_room = True
    assert site.ask()[0] == 503


@pytest.mark.parametrize("path", [
    "/v2/websocket/", "/v2/websockets", "/websocket", "//v2/websocket", "/v2/%77ebsocket", "/v2/queues/websocket",
])
def test_other_paths_are_not_websocket(site: Site, path: str) -> None:
    assert site.ask(path.replace("%77", "w"), REQUEST_URI=path)[0] in (400, 404)
    assert not site.handed_over


def test_prefix_of_a_proxy_may_be_there_or_not(make: Callable[..., Site]) -> None:
    site = make(wsgi={"prefix": "/messaging"})
    for path in ("/v2/websocket", "/messaging/v2/websocket"):
        assert site.ask(path)[0] == 0


def test_origins_are_those_of_cors(make: Callable[..., Site]) -> None:
    site = make(cors={"allowed_origin": "https://good.example"})
    assert site.ask(HTTP_ORIGIN="https://good.example")[0] == 0
    for origin in ("https://evil.example", "http://good.example", "https://good.example:444", ""):
        assert site.ask(HTTP_ORIGIN=origin)[0] == 403
    for origin in ("http://localhost", "https://LOCALHOST"):  # python-zaqarclient sends where it connects to
        assert site.ask(HTTP_ORIGIN=origin)[0] == 0
    for origin in ("http://[", "http://[::1", "//", "localhost"):
        assert site.ask(HTTP_ORIGIN=origin)[0] == 403
    assert make(cors={"allowed_origin": "*"}).ask(HTTP_ORIGIN="https://any.example")[0] == 0


def test_wrong_password_is_refused_in_the_handshake(make: Callable[..., Site], tmp_path: Any) -> None:
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'wonder', bcrypt.gensalt(4)).decode()}\n")
    site = make(DEFAULT={"auth_strategy": "basic"}, basic={"htpasswd_file": users})
    status, _, headers = site.ask(HTTP_AUTHORIZATION="Basic YWxpY2U6d3Jvbmc=")
    assert status == 401 and headers["WWW-Authenticate"].startswith("Basic")
    assert site.ask(HTTP_AUTHORIZATION="Basic YWxpY2U6d29uZGVy")[0] == 0
    assert site.ask()[0] == 0  # signed requests need none


def test_port_of_its_own_is_no_other_listeners(configured: Callable[..., Any]) -> None:
    for section, port in (("wsgi", 8888), ("metrics", 9888)):
        with pytest.raises(ValueError, match=rf"\[{section}\], {port}"):
            websocket_port.check(configured(websocket={"bind": "127.0.0.1", "port": port}))
    assert websocket_port.check(configured(websocket={"bind": "127.0.0.1"})) == "on 127.0.0.1 port 9000"


def test_nobody_is_let_in_by_accident_at_its_own_port(configured: Callable[..., Any]) -> None:
    with pytest.raises(CannotServe, match=r"\[websocket\] bind = 0.0.0.0"):
        check_exposure(configured(websocket={"bind": "0.0.0.0"}))  # nosec B104
    check_exposure(configured(websocket={"bind": "127.0.0.1"}))
    check_exposure(configured())


def test_section_of_zaqar_is_read(configured: Callable[..., Any]) -> None:
    conf = configured(**{"drivers:transport:websocket": {"bind": "127.0.0.1", "port": 9001}})
    assert (conf.websocket.bind, conf.websocket.port) == ("127.0.0.1", 9001)
