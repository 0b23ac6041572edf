"""Clients that people have: python-zaqarclient's transport, the examples of the documentation, a browser."""

import json
import os
import subprocess
import sys
import uuid
from urllib.parse import urlencode

import pytest
from zaqarclient import transport
from zaqarclient.transport import errors
from zaqarclient.transport.request import Request

from functional.example_pages import EXAMPLES, chromium, shown, site
from functional.http import Api
from functional.wait import wait_until

__all__ = ["chromium", "site"]

#: Seconds for what a browser does on a busy machine.
PATIENCE = 60.0


@pytest.fixture
def send(gateway):
    """Send requests with python-zaqarclient: `send("queue_create", queue_name="q")`; what has been received besides."""
    endpoint = gateway.url.replace("http", "ws") + "/v2/websocket"
    options = {"os_auth_token": "none", "os_project_id": f"project-{uuid.uuid4().hex}"}
    with transport.get_transport_for(endpoint, options={"auth_opts": {"backend": "noauth", "options": options}}) as ws:
        def ask(operation, **content):
            return ws.send(Request(endpoint, operation, content=json.dumps(content))).deserialized_content

        ask.receive = ws.recv
        yield ask


def test_zaqarclient_does_what_it_can(send, queue):
    assert send("queue_create", queue_name=queue, metadata={"a": 1}) == f"Queue {queue} created."
    assert send("queue_get", queue_name=queue) == {"a": 1}
    (id_,) = send("message_post", queue_name=queue, messages=[{"body": {"x": 1}, "ttl": 600}])["message_ids"]
    (listed,) = send("message_list", queue_name=queue, echo=True)["messages"]
    assert (listed["id"], listed["body"]) == (id_, {"x": 1})
    claimed = send("claim_create", queue_name=queue, ttl=60, grace=60)
    assert [each["id"] for each in claimed["messages"]] == [id_]
    send("message_delete", queue_name=queue, message_id=id_, claim_id=claimed["claim_id"])
    assert send("queue_list")["queues"] == [{"name": queue}]
    with pytest.raises(errors.ResourceNotFound, match="does not exist"):
        send("message_get", queue_name=queue, message_id=id_)
    with pytest.raises(errors.MalformedRequest, match="not a valid action"):
        send("no_such_action")
    send("queue_delete", queue_name=queue)


def test_zaqarclient_gets_notifications_and_its_answers(send, queue):
    """It takes the next frame as its answer, so none may come in between."""
    made = send("subscription_create", queue_name=queue, ttl=600)
    assert made["message"] == f"Subscription {queue} created."
    for number in range(20):
        assert len(send("message_post", queue_name=queue, messages=[{"body": number, "ttl": 600}])["message_ids"]) == 1
        notification = send.receive()
        assert notification == {"body": number, "ttl": 600, "queue_name": queue, "Message_Type": "Notification"}
    send("subscription_delete", queue_name=queue, subscription_id=made["subscription_id"])


def test_example_in_python_prints_its_notification(gateway, queue):
    url = gateway.url.replace("http", "ws") + "/v2/websocket"
    environ = {**os.environ, "OS_PROJECT_ID": f"project-{uuid.uuid4().hex}"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "websocket_client.py"), url, queue], env=environ, timeout=PATIENCE,
        capture_output=True, text=True, check=True,
    )
    assert json.loads(done.stdout) == {
        "Message_Type": "Notification", "body": {"item": "lamp"}, "queue_name": queue, "ttl": 600,
    }


def state(page):
    return page.evaluate("document.getElementById('state')?.textContent || ''")


def test_page_in_a_browser_shows_messages_and_connects_again(start_gateway, chromium, site, queue):
    gateway = start_gateway(cors={"allowed_origin": site})
    project = f"project-{uuid.uuid4().hex}"
    url = gateway.url.replace("http", "ws") + "/v2/websocket"
    page = chromium.open(f"{site}/websocket.html?{urlencode({'url': url, 'project': project, 'queue': queue})}")
    wait_until(lambda: state(page) == f"subscribed to {queue}", PATIENCE, "the subscription")
    page.evaluate("document.getElementById('post').click()")
    wait_until(lambda: shown(page) == ["a lamp"], PATIENCE, "the message of its own")
    Api(gateway.url, project).post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": {"n": 1}, "ttl": 60}]})
    wait_until(lambda: shown(page) == ["a lamp", {"n": 1}], PATIENCE, "another one's message")
    gateway.restart()
    wait_until(lambda: state(page) == f"subscribed to {queue}", PATIENCE, "the subscription after a restart")
    page.evaluate("document.getElementById('post').click()")
    wait_until(lambda: shown(page) == ["a lamp", {"n": 1}, "a lamp"], PATIENCE, "a message after a restart")
    page.close()


def test_page_of_another_origin_may_not_connect(start_gateway, chromium, site, queue):
    gateway = start_gateway(cors={"allowed_origin": "https://good.example"})
    url = gateway.url.replace("http", "ws") + "/v2/websocket"
    page = chromium.open(f"{site}/websocket.html?{urlencode({'url': url, 'queue': queue})}")
    wait_until(lambda: state(page).startswith("closed (1006)"), PATIENCE, "the refusal")
    page.close()
