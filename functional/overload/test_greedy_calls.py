"""Calls that cost much, many at once, beside everybody else's: nobody waits for them, and they take little memory.

A table: each row is something greedy, each column a call of another client meanwhile. `python -m pytest -s` prints what
the others got, and the memory that was used.
"""

import base64
import contextlib
import json
import threading
import time
from collections import Counter

import bcrypt
import pytest

from functional.api.helpers import create, post
from functional.deployments import beside, embedded
from functional.http import Api
from functional.installed import require
from functional.overload.clients import Memory
from functional.services.gateway import Gateway, merge

#: Seconds for which the greedy ones go on.
LASTING = 3.0

#: Seconds that a call of the others may take: it shares the CPU, and the machine may be busy with other tests.
PATIENCE = 5.0

#: Mebibytes that the gateway may grow by. Eight lists of 600 queues took 2,100. Posts make SQLite's caches grow.
MEMORY = 150
MEMORY_OF_POSTS = 400

#: Queues with so many bytes of metadata each.
QUEUES, METADATA = 600, 53_000

SECRET = "right"


def credentials(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode(), "X-Project-ID": None}


def guess(api, number):
    """A wrong password, another one each time, for a user who is there and one who is not."""
    user = "alice" if number % 2 else "nobody"
    return api.get("/v2/queues", headers=credentials(user, f"guess {number} {time.monotonic()}"))


#: What is greedy: clients at once, the call, and the answers that it may get.
GREEDY = {
    "wrong passwords": (16, guess, {401, 503}),
    "counts by name": (8, lambda api, _: api.get("/v2/queues?with_count=true&name=q"), {200}),
    "counts by metadata": (8, lambda api, _: api.get("/v2/queues?with_count=true&n=7"), {200, 503}),
    "detailed lists": (8, lambda api, _: api.get("/v2/queues?detailed=true&limit=20"), {200}),
    "detailed lists by metadata": (
        8, lambda api, _: api.get("/v2/queues?detailed=true&limit=20&even=true"), {200, 503}
    ),
    "large posts": (
        8, lambda api, _: api.post("/v2/queues/q0/messages", json={"messages": [{"body": 1}] * 1800}), {201, 503}
    ),
}

MESSAGE = {"messages": [{"body": 1}]}

#: What the others call: method, path, body, and the answers that it may get.
OTHERS = {
    "ping": ("GET", "/v2/ping", None, {204}),
    "post": ("POST", "/v2/queues/mine/messages", MESSAGE, {201}),
    "list": ("GET", "/v2/queues/mine/messages?echo=true", None, {200}),
    "claim": ("POST", "/v2/queues/mine/claims", {"ttl": 60, "grace": 60}, {201, 204}),
    "pop": ("DELETE", "/v2/queues/mine/messages?pop=5", None, {200}),
    "stats": ("GET", "/v2/queues/mine/stats", None, {200}),
    "queues": ("GET", "/v2/queues?limit=1", None, {200}),
    "metadata": ("PATCH", "/v2/queues/mine", None, {200}),
}

PATCH = {"Content-Type": "application/openstack-messaging-v2.0-json-patch"}


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """bob is a client like any other, alice is who is guessed at; both with the cost of Python's bcrypt."""
    file = tmp_path_factory.mktemp("users") / "users"
    hashes = [bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(12)).decode() for _ in range(2)]
    file.write_text(f"alice:{hashes[0]}\nbob:{hashes[1]}\n")
    return file


@contextlib.contextmanager
def greedy_clients(url, count, call, statuses):
    """So many clients make a call again and again."""
    ended = threading.Event()
    problems = []

    def run(number):
        api = GreedyApi(url)
        while not ended.is_set():
            try:
                answer = call(api, number)
            except OSError as error:
                problems.append(error)
                return
            statuses[answer.status_code] += 1
            if answer.status_code == 503:
                assert int(answer.headers["Retry-After"]) > 0
                ended.wait(0.05)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert problems == []


class GreedyApi(Api):
    """alice, who has large queues; with her password unless the call says otherwise."""

    def request(self, method, path, **arguments):
        arguments["headers"] = credentials("alice", SECRET) | arguments.get("headers", {})
        return super().request(method, path, **arguments)


class OtherApi(Api):
    """bob."""

    def request(self, method, path, **arguments):
        arguments["headers"] = credentials("bob", SECRET) | arguments.get("headers", {})
        return super().request(method, path, **arguments)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mongodb", marks=pytest.mark.thorough)])
def gateway(request, tmp_path_factory, users):
    """A gateway in which alice has many queues with much metadata."""
    options = merge(
        embedded(tmp_path_factory.mktemp("greedy")),
        {"DEFAULT": {"auth_strategy": "basic"}, "basic": {"htpasswd_file": users}},
    )
    if request.param == "mongodb":
        options = merge(options, beside(request.getfixturevalue("mongodb"), "greedy"))
    with require(lambda: Gateway(options)) as gateway:
        alice, text = GreedyApi(gateway.url), "x" * METADATA
        for number in range(QUEUES):
            create(alice, f"q{number}", n=number % 100, even=number % 2 == 0, text=text)
        yield gateway


@pytest.mark.parametrize("greedy", GREEDY)
def test_others_are_served_meanwhile(gateway, greedy):
    bob = OtherApi(gateway.url)
    assert bob.put("/v2/queues/mine").status_code in (201, 204)
    post(bob, "mine", *range(10))
    clients, call, allowed = GREEDY[greedy]
    statuses, seconds, wrong = Counter(), dict.fromkeys(OTHERS, 0.0), []
    memory = Memory(gateway)
    with greedy_clients(gateway.url, clients, call, statuses):
        end = time.monotonic() + LASTING
        while time.monotonic() < end:
            for name, (method, path, body, good) in OTHERS.items():
                more = {"json": body} if body else {}
                if method == "PATCH":
                    change = [{"op": "add", "path": "/metadata/k", "value": 1}]
                    more = {"data": json.dumps(change), "headers": PATCH}
                start = time.monotonic()
                answer = bob.request(method, path, **more)
                seconds[name] = max(seconds[name], time.monotonic() - start)
                if answer.status_code not in good:
                    wrong.append((name, answer.status_code, answer.text))
                memory.look()

    slowest = ", ".join(f"{name} {took * 1000:.0f}" for name, took in seconds.items())
    print(f"\n{greedy}: {dict(statuses)}, {memory.growth:.0f} MiB; the slowest of the others' calls, ms: {slowest}")
    assert wrong == []
    assert {name: took for name, took in seconds.items() if took > PATIENCE} == {}
    assert set(statuses) <= allowed and statuses
    assert memory.growth < (MEMORY_OF_POSTS if "posts" in greedy else MEMORY)


@pytest.mark.thorough  # it takes luck to be hashed among so many guesses
def test_new_client_gets_in_while_others_guess(start_gateway, users):
    """Not at once, perhaps, but soon: a password that is not known yet has to be hashed too."""
    gateway = start_gateway(DEFAULT={"auth_strategy": "basic"}, basic={"htpasswd_file": users})
    bob = OtherApi(gateway.url)
    start = time.monotonic()
    with greedy_clients(gateway.url, 16, guess, Counter()):
        while (status := bob.get("/v2/queues").status_code) == 503 and time.monotonic() - start < 60:
            time.sleep(0.2)
    assert status == 200
