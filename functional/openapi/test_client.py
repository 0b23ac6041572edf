"""A client that openapi-python-client makes of the document, as docs/openapi.md says, takes the README's tour."""

import base64
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import bcrypt
import pytest

from functional.services.gateway import Gateway
from functional.tours import blocks

PAGE = (Path(__file__).parents[2] / "docs" / "openapi.md").read_text()

#: Where the gateway is on the page, and the name that its client has there.
HERE, PACKAGE = "http://127.0.0.1:8888", "messaging"

#: Seconds to make the client.
TIMEOUT = 120.0

CLIENT_ID = "3381af92-2b9e-11e3-b191-71861300734c"


def generate(url: str, folder: Path) -> None:
    """Make the client in a folder by the commands of the page, which leave nothing of the document out."""
    (commands,) = (block for block in blocks(PAGE, "sh") if "generate" in block)
    command = f'openapi-python-client() {{ {shlex.quote(sys.executable)} -m openapi_python_client "$@"; }}\n'
    made = subprocess.run(
        ["bash", "-ec", command + commands.replace(HERE, url)], cwd=folder, timeout=TIMEOUT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    assert made.returncode == 0 and "WARNING" not in made.stdout, made.stdout


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway]) -> Gateway:
    """One with the default configuration, without what the other functional tests have switched on."""
    return start_gateway(DEFAULT={"admin_mode": False}, signed_url={"secret_key": ""})


@pytest.fixture
def call(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Calls a function of the client: `call("messages.get_message", queue, id)`; what came is in `parsed`."""
    generate(gateway.url, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    client = import_module(PACKAGE).Client(gateway.url, raise_on_unexpected_status=True)

    def call(name: str, *arguments: Any, **more: Any) -> Any:
        module: ModuleType = import_module(f"{PACKAGE}.api.{name}")
        mine = {"client": client, "client_id": CLIENT_ID, "x_project_id": "demo"}
        return module.sync_detailed(*arguments, **(mine | more))

    yield call
    forget()


def test_code_of_the_page_works(gateway: Gateway, tmp_path: Path) -> None:
    generate(gateway.url, tmp_path)
    (code,) = blocks(PAGE, "python")
    told = "print(claimed.messages[0].body)\nprint(claim_messages.sync('orders', **mine))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code.replace(HERE, gateway.url)}\n{told}"], cwd=tmp_path, check=True,
        timeout=TIMEOUT, stdout=subprocess.PIPE, text=True,
    )
    assert ran.stdout.splitlines() == ["{'item': 'lamp'}", "None"]  # claimed, and then deleted


def test_client_has_credentials(
    start_gateway: Callable[..., Gateway], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}:shop\n")
    gateway = start_gateway(DEFAULT={"auth_strategy": "basic"}, basic={"htpasswd_file": users})
    generate(gateway.url, tmp_path)
    token = base64.b64encode(b"alice:secret").decode()
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        client = import_module(PACKAGE).AuthenticatedClient(gateway.url, token, prefix="Basic")
        module = import_module(f"{PACKAGE}.api.queues.create_queue")
        assert module.sync_detailed("orders", client=client, client_id=CLIENT_ID).status_code == 201
        wrong = import_module(PACKAGE).AuthenticatedClient(gateway.url, "d3Jvbmc6d3Jvbmc=", prefix="Basic")
        answer = module.sync_detailed("orders", client=wrong, client_id=CLIENT_ID)
        assert answer.status_code == 401 and answer.parsed.title == "Unauthorized"
    finally:
        forget()


def forget() -> None:
    """Let the next test import its own client."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_client_takes_the_tour(call: Callable[..., Any]) -> None:
    models = import_module(f"{PACKAGE}.models")

    # Post, list, read.
    posted = call("messages.post_messages", "orders", body=models.NewMessages([
        models.NewMessage({"item": "lamp"}, ttl=600), models.NewMessage({"item": "desk"}),
    ]), idempotency_key="tour")
    assert posted.status_code == 201
    assert "ids=" in posted.headers["Location"]
    lamp, desk = (path.rpartition("/")[2] for path in posted.parsed.resources)
    assert call("messages.list_messages", "orders").parsed.messages == []
    page = call("messages.list_messages", "orders", echo=True).parsed
    assert [message.body for message in page.messages] == [{"item": "lamp"}, {"item": "desk"}]
    marker = page.links[0].href.partition("marker=")[2]
    assert call("messages.list_messages", "orders", echo=True, marker=marker).parsed.messages == []
    both = call("messages.list_messages", "orders", ids=[lamp, desk]).parsed.messages
    assert {message.id for message in both} == {lamp, desk}
    assert call("messages.get_message", "orders", lamp).parsed.ttl == 600

    # Claim, renew, release, delete.
    claimed = call("claims.claim_messages", "orders", body=models.NewClaim(ttl=300, grace=60), limit=1)
    claim_id = claimed.headers["Location"].rpartition("/")[2]
    assert [message.id for message in claimed.parsed.messages] == [lamp]
    stats = call("queues.get_queue_stats", "orders").parsed.messages
    assert (stats.claimed, stats.free, stats.total) == (1, 1, 2)
    assert stats.oldest.created.tzinfo is not None
    assert call("claims.renew_claim", "orders", claim_id, body=models.ClaimRenewal(ttl=600)).status_code == 204
    assert call("claims.get_claim", "orders", claim_id).parsed.ttl == 600
    refused = call("messages.delete_message", "orders", lamp)
    assert refused.status_code == 403 and isinstance(refused.parsed, models.Error)
    assert "claim_id" in refused.parsed.description
    assert call("messages.delete_message", "orders", lamp, claim_id=claim_id).status_code == 204
    assert call("claims.release_claim", "orders", claim_id).status_code == 204
    popped = call("messages.delete_or_pop_messages", "orders", pop=5).parsed.messages
    assert [(message.id, message.claim_count) for message in popped] == [(desk, 0)]
    assert call("claims.claim_messages", "orders").status_code == 204

    # Metadata.
    metadata = models.QueueMetadata.from_dict({"team": "shop", "_default_message_ttl": 600})
    assert call("queues.create_queue", "orders", body=metadata).status_code == 204
    shown = call("queues.get_queue", "orders").parsed.to_dict()
    assert (shown["team"], shown["_default_message_ttl"], shown["_fifo"]) == ("shop", 600, False)
    change = models.SetMetadata(models.SetMetadataOp.ADD, "/metadata/team", "store")
    assert call("queues.update_queue", "orders", body=[change]).parsed.to_dict()["team"] == "store"
    filters = models.ListQueuesFilters.from_dict({"team": "store"})
    found = call("queues.list_queues", filters=filters, with_count=True).parsed
    assert ([queue.name for queue in found.queues], found.count) == (["orders"], 1)
    assert call("queues.queue_exists", "orders").status_code == 204
    assert call("queues.queue_exists", "nothing").status_code == 404
    bad = call("queues.create_queue", "orders", body=models.QueueMetadata(field_default_message_ttl=1))
    assert bad.status_code == 400 and "_default_message_ttl" in bad.parsed.description

    # Subscribe another queue, and look after the subscription.
    subscribed = call(
        "subscriptions.create_subscription", "orders", body=models.NewSubscription("marconi:billing", ttl=86400)
    )
    id_ = subscribed.parsed.subscription_id
    again = call("subscriptions.list_subscriptions", "orders", detailed=True).parsed.subscriptions
    assert [(one.id, one.state) for one in again] == [(id_, models.SubscriptionState.ACTIVE)]
    body = models.NewMessages([models.NewMessage({"item": "chair"})])
    assert call("messages.post_messages", "orders", body=body).status_code == 201
    copies = call("messages.delete_or_pop_messages", "billing", pop=1).parsed.messages
    assert [message.body for message in copies] == [{"item": "chair"}]
    assert call("deliveries.get_subscription_status", "orders", id_).parsed.state == "active"
    changes = models.SubscriptionChanges(ttl=7200)
    assert call("subscriptions.update_subscription", "orders", id_, body=changes).status_code == 204
    assert call("subscriptions.get_subscription", "orders", id_).parsed.ttl == 7200
    assert call("secrets.get_subscription_secret", "orders", id_).parsed.secret.startswith("whsec_")
    assert call("subscriptions.delete_subscription", "orders", id_).status_code == 204

    # Topics have the same.
    subscribed = call(
        "subscriptions_of_topics.create_subscription_of_topic", "prices", body=models.NewSubscription("marconi:gold")
    )
    assert subscribed.status_code == 201
    assert call("topics.post_topic_messages", "prices", body=body).status_code == 201
    assert len(call("messages.delete_or_pop_messages", "gold", pop=5).parsed.messages) == 1

    # Clean up.
    purge = models.Purge([models.PurgeResourceTypesItem.MESSAGES])
    assert call("queues.purge_queue", "orders", body=purge).status_code == 204
    for queue in ("orders", "billing", "gold"):
        assert call("queues.delete_queue", queue).status_code == 204
    assert call("queues.list_queues").parsed.queues == []
    assert call("service.ping").status_code == 204
