"""What Schemathesis has to be told besides the document, in its own process; see test_conformance.py.

Random names and ids lead nowhere, so most requests get those of a few queues, and of what earlier answers have named.
"""

import json
import os
import random
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation

#: One in so many requests keeps what was made up for it.
AS_IT_IS = 5

#: Ids of each kind that are kept.
KEPT = 50

PATCH_TYPE = "application/openstack-messaging-v2.0-json-patch"

PROJECT = "conformance"
CLIENTS = ["3381af92-2b9e-11e3-b191-71861300734c", "3381af922b9e11e3b19171861300734d"]

NAMES = {
    "queue_name": ["orders", "billing", "a.b_c-d"], "topic_name": ["prices", "news"], "pool_name": ["second"],
    "flavor_name": ["bulk"],
}

#: Values of bodies, by key, that are more than well-formed. Nothing listens on that port.
VALUES = {
    "subscriber": [f"http://127.0.0.1:9/{number}" for number in range(5)] + ["marconi:copies"],
    "uri": [os.environ.get("MARCONI_OPENAPI_POOL", "")],
    "pool": ["second", "default"],
    "pool_list": [["second"]],
    "_dead_letter_queue": ["dead"],
    "_flavor": [None, None, "bulk"],
    "_bridge": [None],
    "options": [{}, {"_max_in_flight": 1}],
    "secret": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    "expires": ["2100-01-01T00:00:00"],
    "since": ["2020-01-01T00:00:00"],
    "until": ["2100-01-01T00:00:00Z"],
}

_ID = re.compile(r"/v2/(queues|topics)/([A-Za-z0-9_.-]+)/(messages|claims)/([0-9a-f-]{32,36})")

#: Whose ids are found, and by which variable of a path they are named.
_VARIABLES = {"messages": "message_id", "claims": "claim_id"}

#: Where something is, by kind of place and variable: the name of the queue or topic, and the id.
found: dict[tuple[str, str], deque[tuple[str, str]]] = {}


def is_negative(case: Any, location: ParameterLocation) -> bool:
    """Was this part of the request made to break a rule?"""
    return case.meta is not None and bool(case.meta.is_negative_at(location))


def is_linked(case: Any) -> bool:
    """Did an earlier answer say where this request goes?"""
    return case.meta is not None and case.meta.phase.name.value == "stateful"


@schemathesis.serializer(PATCH_TYPE)
def write_patch(context: Any, value: Any) -> bytes:
    return json.dumps(value).encode()


@schemathesis.deserializer("application/json-home")
def read_home(context: Any, response: Any) -> Any:
    return json.loads(response.content)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if not is_negative(case, ParameterLocation.HEADER) and case.headers is not None and "Client-ID" in case.headers:
        case.headers["X-Project-ID"] = PROJECT
        case.headers["Client-ID"] = random.choice(CLIENTS)
    if not is_negative(case, ParameterLocation.PATH) and not is_linked(case) and case.path_parameters:
        fill(case.path_parameters)
    if not is_negative(case, ParameterLocation.QUERY) and case.query and {"ids", "pop"} <= set(case.query):
        del case.query[random.choice(["ids", "pop"])]
    if not is_negative(case, ParameterLocation.BODY):
        make_meaningful(case.body)


def fill(variables: dict[str, Any]) -> None:
    """Let a path lead to something, most of the time."""
    if not random.randrange(AS_IT_IS):
        return
    for name in variables:
        if name in NAMES:
            variables[name] = random.choice(NAMES[name])
    place = "topic_name" if "topic_name" in variables else "queue_name"
    for name in ("message_id", "claim_id", "subscription_id"):
        if name in variables and (known := found.get((place, name))):
            variables[place], variables[name] = random.choice(known)


def make_meaningful(body: Any) -> None:
    """Put values in place of those that are only well-formed, most of the time."""
    if isinstance(body, dict):
        for key, values in VALUES.items():
            if key in body and random.randrange(AS_IT_IS):
                body[key] = random.choice(values)
                if body[key] is None:
                    del body[key]


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    location = response.headers.get("location") or [""]
    text = f"{location[0] if isinstance(location, list) else location} {response.text}"
    for kind, name, things, id_ in _ID.findall(text):
        keep("topic_name" if kind == "topics" else "queue_name", _VARIABLES[things], name, id_)
    if response.status_code == 201 and '"subscription_id"' in response.text:
        variables: Mapping[str, Any] = case.path_parameters
        place = "topic_name" if "topic_name" in variables else "queue_name"
        keep(place, "subscription_id", variables[place], json.loads(response.text)["subscription_id"])


def keep(place: str, variable: str, name: str, id_: str) -> None:
    """Remember where something is."""
    found.setdefault((place, variable), deque(maxlen=KEPT)).append((name, id_))


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """A filter's values are texts, whatever they were made of: on the wire none of them breaks the rule."""
    return not (isinstance(failure, AcceptedNegativeData) and "parameter `filters` in query" in failure.message)
