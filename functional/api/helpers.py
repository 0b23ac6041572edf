"""What several modules of the HTTP suite say about requests and answers, in one place."""

import json
import re
import uuid

from functional.wait import wait_until

JSON = {"Content-Type": "application/json"}
JSON_PATCH = {"Content-Type": "application/openstack-messaging-v2.0-json-patch"}

#: The limits of the contract, as an operator gets them without any configuration.
DEFAULT_PAGE = 10
MAX_PAGE = 20
MAX_POST_SIZE = 262144
MAX_METADATA_SIZE = 65536
MIN_TTL = 60
MAX_MESSAGE_TTL = 1209600
MAX_DELAY = 900
MAX_CLAIM_TTL = 43200
MAX_CLAIM_GRACE = 43200

#: What `GET /queues/{q}` shows for a queue without metadata of its own.
RESERVED_DEFAULTS = {
    "_max_messages_post_size": MAX_POST_SIZE,
    "_default_message_ttl": 3600,
    "_default_message_delay": 0,
    "_dead_letter_queue": None,
    "_dead_letter_queue_messages_ttl": None,
    "_max_claim_count": None,
    "_enable_encrypt_messages": False,
    "_fifo": False,
}

#: zaqarclient raises on any other key in a message.
MESSAGE_KEYS = {"href", "id", "ttl", "age", "body", "claim_id", "claim_count", "checksum"}

REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def eventually(check, seconds=5.0):
    """Repeat `check`, whose assertions may fail, until it returns something true, and give that back."""
    problem = AssertionError(f"still not true after {seconds} seconds")

    def attempt():
        nonlocal problem
        try:
            return check()
        except AssertionError as error:
            problem = error
            return None

    try:
        return wait_until(attempt, seconds)
    except TimeoutError:
        raise problem from None


def error_problem(method, headers, content):
    """Say what is wrong with the form of an error answer to a request by `method`, or give None."""
    if not REQUEST_ID.fullmatch(headers.get("X-Openstack-Request-Id", "")):
        return f"request id {headers.get('X-Openstack-Request-Id')!r}"
    if method == "HEAD":
        return None
    if headers.get("Content-Type", "").split(";")[0].strip() != "application/json":
        return f"content type {headers.get('Content-Type')!r}"
    try:
        document = json.loads(content)
    except ValueError:
        return f"no JSON: {content[:200]!r}"
    if not isinstance(document, dict) or set(document) != {"title", "description"}:
        return f"keys of {document!r}"
    if not all(isinstance(text, str) for text in document.values()) or not document["title"]:
        return f"texts of {document!r}"
    return None


def problem_of(response):
    """Say why no request at all may be answered like this, or give None."""
    if response.status_code >= 500:
        return f"{response.status_code}: {response.text[:300]}"
    if response.status_code >= 400:
        return error_problem(response.request.method, response.headers, response.content)
    return None


def assert_error(response, status, title=None):
    """The answer is an error of this status, in the one form that errors have."""
    assert response.status_code == status, f"{response.status_code}, not {status}: {response.text[:300]}"
    problem = error_problem(response.request.method, response.headers, response.content)
    assert problem is None, problem
    if title is not None:
        assert response.json()["title"] == title


def queue_path(queue):
    return f"/v2/queues/{queue}"


def messages_path(queue):
    return f"/v2/queues/{queue}/messages"


def claims_path(queue):
    return f"/v2/queues/{queue}/claims"


def id_of(href):
    """The last segment of a path, without its query."""
    return href.partition("?")[0].rpartition("/")[2]


def unknown_id():
    return str(uuid.uuid4())


def create(api, queue, **metadata):
    """Make a queue that was not there before, with this metadata."""
    response = api.put(queue_path(queue), json=metadata)
    assert response.status_code == 201, response.text


def patch_metadata(api, queue, *operations):
    return api.patch(queue_path(queue), json=list(operations), headers=JSON_PATCH)


def metadata_of(api, queue):
    response = api.get(queue_path(queue))
    assert response.status_code == 200, response.text
    return response.json()


def post_documents(api, queue, *documents):
    """Post messages given as whole documents (`ttl`, `delay`, `body`); give back their ids."""
    response = api.post(messages_path(queue), json={"messages": list(documents)})
    assert response.status_code == 201, response.text
    return [id_of(href) for href in response.json()["resources"]]


def post(api, queue, *bodies, **fields):
    """Post one message for each body, with the same ttl or delay if given; give back their ids."""
    return post_documents(api, queue, *({"body": body, **fields} for body in bodies))


def page(api, queue, **params):
    """One page of messages, the caller's own included unless `echo` says otherwise."""
    response = api.get(messages_path(queue), params={"echo": "true", **params})
    assert response.status_code == 200, response.text
    return response.json()


def listed(api, queue, **params):
    return page(api, queue, **{"limit": MAX_PAGE, **params})["messages"]


def next_link(document):
    """The href of the `next` link of a page, or None."""
    hrefs = [link["href"] for link in document["links"] if link["rel"] == "next"]
    assert len(hrefs) <= 1, document["links"]
    return hrefs[0] if hrefs else None


def walk(api, path, key):
    """All pages of a listing, following the links until an empty page."""
    pages = []
    while path is not None:
        response = api.get(path)
        assert response.status_code == 200, response.text
        document = response.json()
        if document[key]:
            pages.append(document[key])
        path = next_link(document)
        assert len(pages) < 100, "the links never end"
    return pages


def get_message(api, queue, message_id):
    return api.get(f"{messages_path(queue)}/{message_id}")


def delete_message(api, queue, message_id, **params):
    return api.delete(f"{messages_path(queue)}/{message_id}", params=params)


def pop(api, queue, count):
    response = api.delete(messages_path(queue), params={"pop": count})
    assert response.status_code == 200, response.text
    return response.json()["messages"]


def claim(api, queue, limit=MAX_PAGE, **body):
    """Claim up to `limit` messages; give back the claim's id (None if there was nothing) and the messages."""
    response = api.post(claims_path(queue), json=body, params={"limit": limit})
    if response.status_code == 204:
        return None, []
    assert response.status_code == 201, response.text
    return id_of(response.headers["Location"]), response.json()["messages"]


def get_claim(api, queue, claim_id):
    return api.get(f"{claims_path(queue)}/{claim_id}")


def release(api, queue, claim_id):
    response = api.delete(f"{claims_path(queue)}/{claim_id}")
    assert response.status_code == 204, response.text


def stats(api, queue):
    response = api.get(f"{queue_path(queue)}/stats")
    assert response.status_code == 200, response.text
    return response.json()["messages"]


def bodies(messages):
    return [message["body"] for message in messages]


def ids(messages):
    return [message["id"] for message in messages]
