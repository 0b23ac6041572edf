"""What the tests of the older versions say about requests and answers, in one place."""

from functional.api.helpers import id_of

V1, V1_1, V2 = "/v1", "/v1.1", "/v2"

CLAIM = {"ttl": 300, "grace": 60}


def at(root, queue, below=""):
    """A path of a version: its root, the queue, and what comes below that."""
    return f"{root}/queues/{queue}{below}"


def create(api, queue, root=V1):
    response = api.put(at(root, queue))
    assert response.status_code == 201, response.text


def documents(root, *bodies, ttl=300):
    """The body of a post of a version."""
    messages = [{"ttl": ttl, "body": body} for body in bodies]
    return messages if root == V1 else {"messages": messages}


def post(api, root, queue, *bodies, ttl=300):
    """Post a message for each body; give back the ids."""
    response = api.post(at(root, queue, "/messages"), json=documents(root, *bodies, ttl=ttl))
    assert response.status_code == 201, response.text
    resources = response.json()["resources"]
    assert all(href.startswith(at(root, queue, "/messages/")) for href in resources)
    return [id_of(href) for href in resources]


def listed(api, root, queue, **params):
    """The messages of a page, the caller's own included."""
    response = api.get(at(root, queue, "/messages"), params={"echo": "true", "limit": 20, **params})
    if response.status_code == 204:
        assert root == V1
        return []
    assert response.status_code == 200, response.text
    return response.json()["messages"]


def claim(api, root, queue, limit=20, **times):
    """Claim messages; give back the claim's path and the messages."""
    response = api.post(at(root, queue, "/claims"), json={**CLAIM, **times}, params={"limit": limit})
    if response.status_code == 204:
        return None, []
    assert response.status_code == 201, response.text
    answer = response.json()
    return response.headers["Location"], answer if root == V1 else answer["messages"]


def bodies(messages):
    return [message["body"] for message in messages]
