"""Bodies, queries, headers and patches: an answer that is meant, or an error that is."""

import json
import math
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
from flask import Request
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict
from werkzeug.test import EnvironBuilder

from bridges.bridging import parse
from gateway.access.auth.base import Unauthenticated
from gateway.access.auth.noauth import NoAuth
from gateway.access.policy import Policy
from gateway.api.v2.idempotency import MAX_KEY, read_key
from gateway.api.v2.operations import OPERATIONS
from gateway.app import list_rules
from gateway.config.limits import Limits
from gateway.config.reader import load
from gateway.core.core import Core
from gateway.core.errors import CoreError, InvalidInput
from gateway.core.queues.metadata import MetadataRules
from gateway.core.queues.names import broker_name, queue_key
from gateway.web import body, query
from gateway.web.accept import accepted
from gateway.web.admission import admit, check_queue_name
from gateway.web.context import Service
from gateway.web.errors import answer
from gateway.web.signed_query import HEADERS
from tests.fuzz.fuzzing import deep, fuzzed, headers, json_texts, near, parsed, texts, unicode_texts

RULES = MetadataRules(Limits(), can_encrypt=True, parse_bridging=parse)


def numbers(value: Any) -> list[float]:
    """All numbers in a JSON value."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


@fuzzed
@given(json_texts)
@example(b"[18446744073709551616]")
@example(b'{"a": -9223372036854775809}')
def test_a_body_is_json_with_numbers_that_can_be_kept_or_refused(data: bytes) -> None:
    try:
        value = body.parse(data)
    except InvalidInput as error:
        orjson.dumps(answer(error)[1])
        return
    if len(data) < 1000:  # not so deep that looking at it is a recursion error
        assert all(math.isfinite(n) for n in numbers(value))
        # Integers as they are written, not as the double that one beyond 64 bits would be rounded to.
        written = [n for n in numbers(json.loads(data)) if isinstance(n, int)]
        assert all(body.INT_MIN <= n <= body.INT_MAX for n in written)
    try:
        again = body.encode(value)
    except InvalidInput:
        return
    assert orjson.loads(again) == value


@fuzzed
@given(
    st.lists(
        st.tuples(st.sampled_from(["limit", "pop", "ids", "echo", "marker"]) | unicode_texts, unicode_texts),
        max_size=4,
    ),
    st.sampled_from(["limit", "pop", "ids", "echo"]),
)
def test_a_query_is_read_or_refused(pairs: list[tuple[str, str]], name: str) -> None:
    args: MultiDict[str, str] = MultiDict(pairs)
    for read in (query.integer, query.boolean, query.strings, lambda args, name: query.limit(args, 20)):
        try:
            read(args, name)
        except InvalidInput as error:
            orjson.dumps(answer(error)[1])
    (link,) = query.next_link("/v2/queues", args, "m")
    assert link["href"].isprintable() and link["href"].isascii()


POLICY = Policy(load(config_files=[]), list_rules())

#: An operation with a rule, and one without.
LIST = next(operation for operation in OPERATIONS if operation.name == "queues:get_all")
MESSAGES = next(operation for operation in OPERATIONS if operation.feed is not None)
HOME = next(operation for operation in OPERATIONS if operation.rule is None)


def service(**options: Any) -> Service:
    usual = {"core": None, "healthcheck": None, "operations": OPERATIONS, "auth": NoAuth(None),
             "signing_key": "secret", "admin_mode": True, "enable_checksum": False, "policy": POLICY,
             "client_id_uuid_safe": True, "client_id_length": (10, 36), "request_rate": None, "byte_rate": None}
    return Service(**(usual | options))


@fuzzed
@given(
    st.dictionaries(
        st.sampled_from([
            "HTTP_ACCEPT", "HTTP_CLIENT_ID", "HTTP_X_PROJECT_ID", "HTTP_X_ROLES", "HTTP_URL_SIGNATURE",
            "HTTP_URL_PATHS", "HTTP_URL_METHODS", "HTTP_URL_EXPIRES", "HTTP_AUTHORIZATION",
        ]),
        headers,
    ),
    st.booleans(),
)
def test_headers_are_admitted_or_refused(environ: dict[str, str], uuid_safe: bool) -> None:
    usual = {"HTTP_CLIENT_ID": "0" * 32, "HTTP_X_PROJECT_ID": "p", "HTTP_ACCEPT": "*/*"}
    request = Request({**EnvironBuilder().get_environ(), **usual, **environ})
    try:
        call = admit(service(client_id_uuid_safe=uuid_safe), request, LIST)
    except (CoreError, Unauthenticated) as error:
        status, document, fields = answer(error)
        assert 400 <= status < 500 and orjson.dumps(document)
        assert all(value.isprintable() for value in fields.values())
        return
    assert call.project.isascii() and call.project.isprintable() and 1 <= len(call.project) <= 256
    assert call.client.isprintable() and len(call.client) <= 36
    assert "HTTP_URL_SIGNATURE" not in environ


@fuzzed
@given(st.dictionaries(st.sampled_from([*HEADERS]), texts), texts)
def test_query_is_signed_or_refused(parameters: dict[str, str], more: str) -> None:
    query = urlencode({name: text.encode("utf-8", "replace") for name, text in parameters.items()})
    environ = {**EnvironBuilder().get_environ(), "QUERY_STRING": f"{query}&{quote(more.encode('utf-8', 'replace'))}"}
    request = Request({**environ, "HTTP_CLIENT_ID": "0" * 32, "HTTP_X_PROJECT_ID": "p"})
    try:
        call = admit(service(), request, MESSAGES)
    except CoreError as error:
        assert answer(error)[0] in (400, 404)
        return
    assert call.project == "p" and "url_signature" not in parameters


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\xa0"])
def test_a_project_with_an_odd_space_is_not_the_one_without(space: str) -> None:
    environ = {**EnvironBuilder().get_environ(), "HTTP_CLIENT_ID": "0" * 32}
    for project in (f"p{space}", f"{space}p"):
        with pytest.raises(InvalidInput):
            admit(service(), Request({**environ, "HTTP_X_PROJECT_ID": project}), HOME)


def test_long_headers_are_not_remembered() -> None:
    from gateway.web import accept, admission

    admission.client_id.cache_clear()
    accept._read_cached.cache_clear()
    environ = {**EnvironBuilder().get_environ(), "HTTP_X_PROJECT_ID": "p"}
    with pytest.raises(InvalidInput):
        long = {"HTTP_ACCEPT": "*/*" + " " * 60_000, "HTTP_CLIENT_ID": "0" * 60_000}
        admit(service(), Request({**environ, **long}), HOME)
    assert admission.client_id.cache_info().currsize == accept._read_cached.cache_info().currsize == 0


@fuzzed
@given(headers | st.sampled_from(["," * 60_000, ";" * 60_000, "q=0" * 20_000, "*/*;" + "q =" * 20_000]))
def test_any_accept_header_is_understood(text: str) -> None:
    admits_json, names_feed, both = accepted(text)
    assert not both or (admits_json and names_feed)


@fuzzed
@given(texts)
def test_a_queue_name_needs_no_quoting(name: str) -> None:
    try:
        check_queue_name(name)
    except InvalidInput:
        return
    assert name.isascii() and name.isprintable() and not set(name) & set("/\\%?# ,")


projects = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters=","), min_size=1, max_size=256)
tricky = st.sampled_from(["a", "a/b", "a/b/", "/", "a.b", "a%2Eb", "a%2eb", "A", " a", "..", "../a", "#a", "a" * 256])
names = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True) | st.sampled_from(["c", "b", "b.c", "..", ".", "-"])


@fuzzed
@given(st.tuples(projects | tricky, names), st.tuples(projects | tricky, names))
@example(("a", "b.c"), ("a.b", "c"))
@example(("a%2Eb", "c"), ("a.b", "c"))
@example(("a/b", "c"), ("a%2Fb", "c"))
def test_two_queues_share_no_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    for name_of in (queue_key, broker_name):
        assert (name_of(*one) == name_of(*other)) == (one == other)
    assert len(broker_name(*one)) <= 255


reserved = st.sampled_from([
    "_bridge", "_retry_policy", "_flavor", "_dead_letter_queue", "_max_claim_count", "_default_message_ttl",
    "_enable_encrypt_messages", "_max_messages_post_size", "key",
])
metadata = st.dictionaries(reserved | unicode_texts, parsed)


@fuzzed
@given(metadata)
def test_metadata_is_kept_or_refused(value: dict[str, Any]) -> None:
    try:
        kept = RULES.check(value)
    except CoreError as error:
        orjson.dumps(answer(error)[1])
        return
    RULES.resolve(kept)
    orjson.dumps({"queues": [{"metadata": RULES.show(kept)}]})


operation = st.fixed_dictionaries({}, optional={
    "op": near(st.sampled_from(["add", "remove", "replace"]), parsed),
    "path": near(st.sampled_from(["/metadata/key", "/metadata/_bridge", "/metadata/~0~1"]), parsed),
    "value": parsed,
    "from": parsed,
})


@fuzzed
@given(near(st.lists(operation | parsed, max_size=4), parsed))
def test_a_patch_is_applied_or_refused(operations: Any) -> None:
    try:
        patched = RULES.patch({"key": 1}, operations)
    except CoreError as error:
        orjson.dumps(answer(error)[1])
        return
    assert RULES.check(patched) == patched


@pytest.mark.parametrize("levels", [40, 250, 900, 1010])
def test_depth_ends_no_recursion(levels: int) -> None:
    table = orjson.loads(deep(levels))
    for bridge in (
        {"source": {"exchange": "e", "type": "headers", "arguments": table}},
        {"target": table}, {"source": table}, table,
    ):
        with pytest.raises(InvalidInput):
            RULES.check({"_bridge": bridge})


def test_a_source_has_so_many_binding_keys_at_the_most() -> None:
    source = {"exchange": "e", "type": "topic", "binding_keys": ["k"] * 101}
    with pytest.raises(InvalidInput, match="100"):
        RULES.check({"_bridge": {"source": source}})


def test_what_is_remembered_of_posts_has_no_bodies(core: Core) -> None:
    from gateway.core.messages.post import Post

    core.messages.post("p", "q", "c", [Post(b"1" * 10_000)], 10_000)
    newest = core.pool.publishing.newest(core.directory.ensure("p", "q"))
    assert newest is not None and newest.body == b""


@fuzzed
@given(headers | texts)
@example('"' + '\\"' * 300)
def test_an_idempotency_key_is_read_or_refused(text: str) -> None:
    try:
        key = read_key(text, b"")
    except InvalidInput as error:
        orjson.dumps(answer(error)[1])
        return
    assert 1 <= len(key.text) <= MAX_KEY
    assert key.text.isascii() and key.text.isprintable()
    quoted = key.text.replace("\\", "\\\\").replace('"', '\\"')
    assert read_key(f'"{quoted}"', b"") == key
