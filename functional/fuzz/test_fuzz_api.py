"""Random requests: whatever comes in, the answer is proper and the gateway goes on.

A run takes MARCONI_FUZZ_SECONDS (180) for each deployment. A failure prints the requests that led to it and
the seed; MARCONI_FUZZ_SEED repeats the run.
"""

import dataclasses
import http.client
import json
import os
import random
import time
import uuid
from urllib.parse import quote, quote_from_bytes

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from functional import raw
from functional.api.helpers import JSON, JSON_PATCH, error_problem
from functional.http import Api

#: Seconds for each deployment.
DURATION = float(os.environ.get("MARCONI_FUZZ_SECONDS", "180"))

#: Scripts in a round: the clock and the health of the gateway are looked at between rounds.
ROUND = 20

#: Requests in a script, which share a project and what the earlier ones have made.
LONGEST_SCRIPT = 25

#: A port on which nothing listens: a refused connection is quick.
NOWHERE = "127.0.0.1:9"

METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "FOO"]

#: Places in a path that are filled with what an earlier request of the script has made.
MADE = ("message", "claim", "subscription")

#: Method and path of every endpoint.
ENDPOINTS = [
    ("GET", "/"),
    ("GET", "/v2/"),
    ("GET", "/v2/ping"),
    ("GET", "/v2/health"),
    ("GET", "/v2/queues"),
    ("PUT", "/v2/queues/{queue}"),
    ("GET", "/v2/queues/{queue}"),
    ("HEAD", "/v2/queues/{queue}"),
    ("PATCH", "/v2/queues/{queue}"),
    ("DELETE", "/v2/queues/{queue}"),
    ("GET", "/v2/queues/{queue}/stats"),
    ("POST", "/v2/queues/{queue}/purge"),
    ("POST", "/v2/queues/{queue}/share"),
    ("POST", "/v2/queues/{queue}/messages"),
    ("GET", "/v2/queues/{queue}/messages"),
    ("DELETE", "/v2/queues/{queue}/messages"),
    ("GET", "/v2/queues/{queue}/messages/{message}"),
    ("DELETE", "/v2/queues/{queue}/messages/{message}"),
    ("POST", "/v2/queues/{queue}/claims"),
    ("GET", "/v2/queues/{queue}/claims/{claim}"),
    ("PATCH", "/v2/queues/{queue}/claims/{claim}"),
    ("DELETE", "/v2/queues/{queue}/claims/{claim}"),
    ("POST", "/v2/queues/{queue}/subscriptions"),
    ("GET", "/v2/queues/{queue}/subscriptions"),
    ("GET", "/v2/queues/{queue}/subscriptions/{subscription}"),
    ("PATCH", "/v2/queues/{queue}/subscriptions/{subscription}"),
    ("DELETE", "/v2/queues/{queue}/subscriptions/{subscription}"),
    ("PUT", "/v2/queues/{queue}/subscriptions/{subscription}/confirm"),
    ("GET", "/v2/pools"),
    ("PUT", "/v2/pools/{pool}"),
    ("GET", "/v2/pools/{pool}"),
    ("PATCH", "/v2/pools/{pool}"),
    ("DELETE", "/v2/pools/{pool}"),
    ("GET", "/v2/flavors"),
    ("PUT", "/v2/flavors/{flavor}"),
    ("GET", "/v2/flavors/{flavor}"),
    ("PATCH", "/v2/flavors/{flavor}"),
    ("DELETE", "/v2/flavors/{flavor}"),
]

#: Parameters of queries, with values that they take.
PARAMETERS = {
    "limit": ["1", "5", "20"],
    "pop": ["1", "5", "20"],
    "marker": ["{message}", "a", "b"],
    "ids": ["{message}", "{message},{message}"],
    "claim_id": ["{claim}"],
    "claim_ids": ["{claim}"],
    "echo": ["true", "false"],
    "include_claimed": ["true", "false"],
    "include_delayed": ["true", "false"],
    "detailed": ["true", "false"],
    "with_count": ["true", "false"],
    "name": ["a", "b.c"],
    "key": ["1", "text"],
}


@dataclasses.dataclass(frozen=True)
class Request:
    """One request of a script; its target may hold places for what earlier ones made."""

    method: str
    target: str
    headers: tuple[tuple[str, bytes], ...] = ()
    body: bytes = b""


# Hostile pieces

text = st.text(max_size=40)
integers = st.one_of(
    st.sampled_from(
        [-1, 0, 1, 20, 21, 59, 60, 900, 901, 43200, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1]
    ),
    st.integers(),
)


def nested(scalars):
    """Whatever JSON can hold, of these scalars."""
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
        max_leaves=12,
    )


good_values = nested(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        text,
    )
)
values = nested(st.one_of(st.none(), st.booleans(), integers, st.floats(), text, st.just("\ud800")))
encoded = st.one_of(
    text.map(lambda value: quote(value.encode("utf-8", "surrogatepass"), safe="")),
    st.binary(max_size=30).map(quote_from_bytes),
    st.sampled_from(
        ["..", ".", "%2e%2e", "%2f", "*", "$where", "%", "%zz", "a" * 65, "x" * 2000, "9" * 5000]
    ),
)


def mostly(good, bad, weight=12):
    """Values of `good`, and once in `weight` times one of `bad`; the simplest one is good."""
    return st.integers(1, weight).flatmap(lambda choice: bad if choice == weight else good)


# Documents: near the good ones, so that they get past the first check

ttls = mostly(st.integers(60, 43200), values)
delays = mostly(st.sampled_from([0, 0, 0, 1, 900]), values)
labels = mostly(st.sampled_from(["a", "b"]), values)


def documents(*, required=None, optional=None):
    return mostly(st.fixed_dictionaries(required or {}, optional=optional or {}), values, weight=20)


message = documents(
    required={"body": mostly(good_values, values, weight=30)}, optional={"ttl": ttls, "delay": delays}
)
ordered_message = documents(
    required={"body": mostly(good_values, values, weight=30)},
    optional={"ttl": ttls, "delay": delays, "group": labels, "dedup_id": labels},
)
metadata = documents(
    optional={
        "_default_message_ttl": ttls,
        "_default_message_delay": delays,
        "_max_messages_post_size": integers,
        "_max_claim_count": mostly(st.integers(1, 3), values),
        "_dead_letter_queue": mostly(st.sampled_from(["a", "b.c"]), values),
        "_dead_letter_queue_messages_ttl": ttls,
        "_enable_encrypt_messages": mostly(st.booleans(), values),
        "_retry_policy": mostly(st.just({}), values, weight=3),
        "_fifo": mostly(st.booleans(), values),
        "key": mostly(good_values, values),
    }
)
operation = documents(
    required={
        "op": mostly(st.sampled_from(["add", "replace", "remove"]), values),
        "path": mostly(st.sampled_from(["/metadata/key", "/metadata/_max_claim_count"]), values),
    },
    optional={"value": good_values},
)
subscription = documents(
    optional={
        "subscriber": mostly(st.sampled_from([f"http://{NOWHERE}/a", f"http://{NOWHERE}/b"]), values),
        "ttl": ttls,
        "options": mostly(st.dictionaries(text, good_values, max_size=3), values),
    }
)
pool = documents(
    optional={
        "weight": integers,
        "uri": mostly(st.just(f"amqp://{NOWHERE}/"), values),
        "options": values,
        "flavor": values,
    }
)
flavor = documents(optional={"pool_list": values, "capabilities": values})

DOCUMENTS = {
    ("PUT", "/v2/queues/{queue}"): metadata,
    ("PATCH", "/v2/queues/{queue}"): mostly(st.lists(operation, max_size=4), values),
    ("POST", "/v2/queues/{queue}/purge"): documents(
        optional={"resource_types": mostly(st.sampled_from([["messages"], ["subscriptions"]]), values)}
    ),
    ("POST", "/v2/queues/{queue}/share"): documents(
        optional={
            "paths": mostly(st.just(["messages", "claims"]), values),
            "methods": mostly(st.just(["GET"]), values),
            "expires": mostly(st.just("2100-01-01T00:00:00"), values),
        }
    ),
    ("POST", "/v2/queues/{queue}/messages"): documents(
        required={
            "messages": mostly(
                st.lists(message, min_size=1, max_size=5) | st.lists(ordered_message, min_size=1, max_size=5), values
            )
        }
    ),
    ("POST", "/v2/queues/{queue}/claims"): documents(
        optional={"ttl": ttls, "grace": ttls, "limit": mostly(st.integers(1, 20), values)}
    ),
    ("PATCH", "/v2/queues/{queue}/claims/{claim}"): documents(optional={"ttl": ttls, "grace": ttls}),
    ("POST", "/v2/queues/{queue}/subscriptions"): subscription,
    ("PATCH", "/v2/queues/{queue}/subscriptions/{subscription}"): subscription,
    ("PUT", "/v2/queues/{queue}/subscriptions/{subscription}/confirm"): documents(
        optional={"confirmed": mostly(st.booleans(), values)}
    ),
    ("PUT", "/v2/pools/{pool}"): pool,
    ("PATCH", "/v2/pools/{pool}"): pool,
    ("PUT", "/v2/flavors/{flavor}"): flavor,
    ("PATCH", "/v2/flavors/{flavor}"): flavor,
}


def written(document):
    """JSON text as a careless client writes it: NaN, big numbers and lone surrogates included."""
    return json.dumps(document).encode()


@st.composite
def damaged(draw, body):
    """A body with a piece cut out of it and another put in."""
    whole = draw(body)
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, len(whole)))
    return whole[:start] + draw(st.binary(max_size=20)) + whole[end:]


def bodies(endpoint):
    good = DOCUMENTS.get(endpoint)
    if good is None:
        return mostly(st.just(b""), values.map(written))
    whole = good.map(written)
    return mostly(whole, st.one_of(damaged(whole), st.binary(max_size=100), st.just(b"")))


# Requests

# Messages and claims more often than the rest: what goes wrong there needs several steps.
endpoints = st.one_of(
    st.sampled_from(ENDPOINTS),
    st.sampled_from([("POST", "/v2/queues/{queue}/messages"), ("POST", "/v2/queues/{queue}/claims")]),
    st.sampled_from(
        [endpoint for endpoint in ENDPOINTS if "/messages" in endpoint[1] or "/claims" in endpoint[1]]
    ),
)
queues = mostly(st.just("a"), st.one_of(st.just("b.c"), st.just("q" * 64), encoded), weight=8)
places = st.fixed_dictionaries(
    {
        "queue": queues,
        **{kind: mostly(st.just("{" + kind + "}"), st.one_of(encoded, st.uuids().map(str))) for kind in MADE},
        "pool": mostly(st.sampled_from(["fuzz-pool", "none"]), encoded),
        "flavor": mostly(st.sampled_from(["fuzz-flavor", "none"]), encoded),
    }
)
parameters = mostly(
    st.sampled_from([(name, value) for name, found in PARAMETERS.items() for value in found]),
    st.tuples(st.one_of(st.sampled_from(list(PARAMETERS)), encoded), encoded),
    weight=6,
)
queries = st.lists(parameters, max_size=3).map(
    lambda pairs: "?" + "&".join(f"{name}={value}" for name, value in pairs) if pairs else ""
)

# Bytes that may stand in a header's value: HTTP itself forbids the control characters.
header_bytes = st.lists(st.sampled_from([*range(32, 127), *range(128, 256)]), max_size=60).map(bytes)
HOSTILE_HEADERS = [
    "Client-ID",
    "X-Project-ID",
    "Accept",
    "Content-Type",
    "Content-Encoding",
    "Idempotency-Key",
    "X-Roles",
    "X-Auth-Token",
    "URL-Signature",
    "URL-Expires",
    "URL-Methods",
    "URL-Paths",
    "Cookie",
    "Forwarded",
    "X-Forwarded-For",
    "X-HTTP-Method-Override",
    "Range",
    "If-None-Match",
]
hostile_headers = mostly(
    st.just(()),
    st.lists(st.tuples(st.sampled_from(HOSTILE_HEADERS), header_bytes), max_size=3).map(tuple),
    weight=6,
)


@st.composite
def requests(draw):
    """A request to one of the endpoints, or to something like it."""
    endpoint = draw(endpoints)
    path = endpoint[1]
    method = draw(mostly(st.just(endpoint[0]), st.sampled_from(METHODS), weight=20))
    target = path.format(**draw(places))
    target += draw(mostly(st.just(""), encoded.map("/{}".format), weight=30))
    content_type = JSON_PATCH if endpoint == ("PATCH", "/v2/queues/{queue}") else JSON
    headers = {name: value.encode() for name, value in content_type.items()} | dict(draw(hostile_headers))
    return Request(method, target + draw(queries), tuple(headers.items()), draw(bodies(endpoint)))


scripts = st.lists(requests(), min_size=1, max_size=LONGEST_SCRIPT)


# Playing them


class Player:
    """Sends the requests of one script, in a project of its own."""

    def __init__(self, url):
        self.url = url
        self.usual = {
            "Client-ID": str(uuid.uuid4()).encode(),
            "X-Project-ID": f"fuzz-{uuid.uuid4().hex}".encode(),
        }
        self.made = dict.fromkeys(MADE, str(uuid.uuid4()))

    def play(self, request):
        target = request.target
        for kind, made in self.made.items():
            target = target.replace("{" + kind + "}", made)
        try:
            response = raw.exchange(self.url, self.bytes_of(request, target))
        except (OSError, http.client.HTTPException) as error:
            raise AssertionError(f"no answer to {request.method} {target}: {error!r}") from error
        problem = self.problem(request, response)
        assert problem is None, f"{request.method} {target}: {problem}"
        self.remember(response)

    def bytes_of(self, request, target):
        given = {name.lower() for name, _ in request.headers}
        usual = [(name, value) for name, value in self.usual.items() if name.lower() not in given]
        lines = [
            f"{request.method} {target} HTTP/1.1".encode("latin-1"),
            b"Host: localhost",
            b"Connection: close",
            b"Content-Length: %d" % len(request.body),
            *(name.encode() + b": " + value for name, value in [*usual, *request.headers]),
        ]
        return b"\r\n".join([*lines, b"", request.body])

    def problem(self, request, response):
        if response.status >= 500:
            return f"{response.status} {response.body[:500]!r}"
        if response.status >= 400:
            wrong = error_problem(request.method, response.headers, response.body)
            return wrong and f"{response.status} with {wrong}"
        if response.body:
            try:
                json.loads(response.body)
            except ValueError:
                return f"{response.status} without JSON: {response.body[:500]!r}"
        return None

    def remember(self, response):
        """Keep the ids of what was made, for the requests that follow."""
        location = response.headers.get("Location", "")
        if response.status != 201:
            return
        document = json.loads(response.body) if response.body else {}
        if "/claims/" in location:
            self.made["claim"] = location.rpartition("/")[2]
        if document.get("subscription_id"):
            self.made["subscription"] = document["subscription_id"]
        for resource in document.get("resources", [])[:1]:
            self.made["message"] = resource.rpartition("/")[2]


def run_round(url, number):
    """Play a round of random scripts; the number decides which."""

    @seed(number)
    @settings(
        max_examples=ROUND,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(scripts)
    def round_of_scripts(script):
        player = Player(url)
        for request in script:
            player.play(request)

    round_of_scripts()


def test_hostile_requests_are_answered_properly(gateway):
    first = int(os.environ.get("MARCONI_FUZZ_SEED") or random.SystemRandom().getrandbits(32))
    print(f"MARCONI_FUZZ_SEED={first}")
    api = Api(gateway.url)
    deadline = time.monotonic() + DURATION

    rounds = 0
    while time.monotonic() < deadline:
        run_round(gateway.url, first + rounds)
        rounds += 1
        assert api.get("/v2/ping").status_code == 204

    print(f"{rounds} rounds of {ROUND} scripts")
    assert rounds > 0
