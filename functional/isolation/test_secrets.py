"""No secret of the configuration, and none that a client sends, is in a log or an answer, whatever goes wrong."""

import base64
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from functional import raw
from functional.api.helpers import messages_path, queue_path
from functional.http import Api
from functional.services.gateway import Gateway
from functional.services.ports import free_port


class Secrets:
    """Distinctive secrets; what is encoded somewhere else has its other forms here too."""

    def __init__(self) -> None:
        self.known: list[str] = []

    def new(self, kind: str) -> str:
        self.known.append(f"hush-{kind}-{uuid.uuid4().hex[:8]}")
        return self.known[-1]

    def find(self, text: str) -> list[str]:
        return [secret for secret in self.known if secret in text]


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


def test_no_secret_is_logged(
    start_gateway: Callable[..., Gateway], secrets: Secrets, tmp_path: Path, rabbitmq: Any, mongodb: Any
) -> None:
    key = base64.b64encode(secrets.new("encryption")[:23].ljust(32, "x").encode()).decode()
    signing = secrets.new("signing")
    secrets.known.append(key)
    password, user_hash = secrets.new("basic"), tmp_path / "users"
    hash_ = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    user_hash.write_text(f"alice:{hash_}:A\n")
    secrets.known.append(hash_)
    broker = rabbitmq.uri.replace("guest:guest", f"nobody:{secrets.new('broker')}")
    store = mongodb.database_uri("secrets").replace("://", f"://nobody:{secrets.new('store')}@")
    common = {
        "DEFAULT": {"debug": True, "auth_strategy": "basic"}, "basic": {"htpasswd_file": user_hash},
        "signed_url": {"secret_key": signing}, "encryption": {"key": key},
    }
    gone = {"timeout": 1.0}
    gateways = [
        start_gateway(**common),
        start_gateway(**common, bridge={"uri": broker, **gone}),  # a wrong password
        start_gateway(**common, side_store={"uri": store, **gone}),
        start_gateway(**common, bridge={
            "uri": f"amqp://nobody:{secrets.new('down')}@127.0.0.1:{free_port()}/", **gone,
        }),
        start_gateway(**common, side_store={
            "uri": f"mongodb://nobody:{secrets.new('down')}@127.0.0.1:{free_port()}/db"
                   f"?tls=true&tlsCertificateKeyFilePassword={secrets.new('tls')}", **gone,
        }),
    ]
    answers = ""
    for gateway in gateways:
        api = Api(gateway.url)
        right = base64.b64encode(f"alice:{password}".encode()).decode()
        wrong = base64.b64encode(f"alice:{secrets.new('wrong')}".encode()).decode()
        secrets.known += [right, wrong]
        bearer = f"Bearer {secrets.new('bearer')}"
        for credentials in (f"Basic {right}", f"Basic {wrong}", bearer, f"Basic {right}\xff"):
            fields = {"Authorization": credentials.encode("latin-1"), "X-Project-ID": None}
            for method, path, document in (
                ("PUT", queue_path("q"), {"_enable_encrypt_messages": True}),
                ("POST", messages_path("q"), {"messages": [{"body": secrets.new("body")}]}),
                ("GET", f"{messages_path('q')}?limit=0&{secrets.new('query')}=1", None),
                ("GET", f"{messages_path('q')}?echo=true", None),
                ("PUT", queue_path("r"), {"_flavor": "none"}),
                ("GET", "/v2/ping", None), ("GET", "/none", None),
            ):
                response = api.request(method, path, json=document, headers=fields)
                answers += "" if response.ok else response.text
        signature = secrets.new("signature")
        response = api.get(messages_path("q"), headers={"URL-Signature": signature, "URL-Paths": signature})
        assert response.status_code == 404
        answers += response.text
        share = api.post(f"{queue_path('q')}/share", headers={"Authorization": f"Basic {right}", "X-Project-ID": "A"})
        if share.ok:
            secrets.known.append(share.json()["signature"])
        raw.exchange(gateway.url, f"GET / HTTP/1.1\r\nAuthorization {secrets.new('malformed')}\r\n\r\n".encode())
    assert any(gateway.log.count("WARNING") for gateway in gateways[1:])
    for gateway in gateways:
        assert gateway.stop() == 0
        assert "DEBUG" in gateway.log
        assert secrets.find(gateway.log) == []
    assert [secret for secret in secrets.find(answers) if "query" not in secret] == []
