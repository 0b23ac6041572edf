"""Rule 9, for encryption: what one gateway can't decrypt blocks, hides and destroys nothing else.

A table of bad case × call: the queue of each call holds three good messages with seven bad ones in front of them,
between them and after them. A gateway that can't decrypt the bad ones makes the call; then one that has all keys looks
at what is left.
"""

import base64
import sqlite3
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import pika
import pytest

from functional.api.helpers import (
    bodies,
    claim,
    claims_path,
    create,
    delete_message,
    get_claim,
    get_message,
    ids,
    listed,
    messages_path,
    patch_metadata,
    pop,
    post,
    queue_path,
    release,
    stats,
    walk,
)
from functional.brokers import broker_kind
from functional.deployments import COMMON, beside, embedded, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, merge
from functional.services.redis import Redis
from functional.test_metrics import value_of
from gateway.core.queues.names import broker_name
from gateway.core.seal import key_id

#: Client-ID for posting the bad messages.
BAD_CLIENT = str(uuid.uuid4())

OURS, THEIRS = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
ID_OF = {key: key_id(base64.b64decode(key)) for key in (OURS, THEIRS)}

#: The section [encryption] of the gateway that makes the calls. The other one has THEIRS, which it encrypts the bad
#: messages with, and OURS.
CASES = {
    "other-key": {"key": OURS},
    "no-key": {"key": ""},
    "key-changed": {"key": OURS, "other_keys": base64.b64encode(bytes([3]) * 32).decode()},
    "damaged": {"key": THEIRS},
    "native": {"key": THEIRS},
}

#: What native producers send as encrypted; ours have a client, and name their key.
FORGED = (
    {"marconi-cipher": "AES-256-GCM"},
    {"marconi-cipher": "AES-256-GCM", "marconi-client": "c"},
    {"marconi-cipher": "AES-256-GCM", "marconi-client": "c", "marconi-cipher-key": ID_OF[THEIRS]},
    {"marconi-cipher": "AES-256-GCM", "marconi-cipher-key": 7},
    {"marconi-cipher": "AES-256-GCM"},
    {"marconi-cipher": "AES-256-GCM"},
    {"marconi-cipher": "AES-256-GCM"},
)

WHERE = {
    "embedded": ("other-key", "no-key", "key-changed", "damaged"),
    "hybrid": ("other-key", "no-key", "key-changed", "native"),
    "hybrid-landed": ("other-key", "no-key", "native"),
}

#: What a plain run leaves out: each case is tried once with a broker or without one.
THOROUGH = ("embedded:no-key", "hybrid:other-key", "hybrid:key-changed", "hybrid-landed:no-key", "hybrid-landed:native")
PLACES = [
    pytest.param(place, marks=[pytest.mark.thorough] if place in THOROUGH else [])
    for where, cases in WHERE.items() for place in [f"{where}:{case}" for case in cases]
]

CALLS = ("claim", "claim-one-by-one", "pop", "pop-one-by-one", "list", "list-one-by-one", "get", "ids", "delete",
         "claimed", "dead-letters", "metrics")

BAD, GOOD = [f"bad {number}" for number in range(1, 8)], ["good 1", "good 2", "good 3"]
ALL = [*BAD[:3], GOOD[0], *BAD[3:5], *GOOD[1:], *BAD[5:]]


def start(stack, *layers):
    return stack.enter_context(require(lambda: Gateway(merge(COMMON, *layers))))


def switch(api, queues, value):
    """Have the queues encrypt what this gateway posts, or not."""
    operation = {"op": "replace", "path": "/metadata/_enable_encrypt_messages", "value": value}
    with ThreadPoolExecutor(len(queues)) as pool:
        assert {answer.status_code for answer in pool.map(lambda q: patch_metadata(api, q, operation), queues)} == {200}


@pytest.fixture(scope="module", params=PLACES)
def table(request, tmp_path_factory):
    """Two gateways, and a queue for each call."""
    where, case = request.param.split(":")
    folder = tmp_path_factory.mktemp("side-store")
    if where == "embedded":
        options = embedded(folder)
    else:
        if case == "native" and broker_kind() is Redis:
            pytest.skip("it is about brokers that speak AMQP")
        mongodb, database = request.getfixturevalue("mongodb"), f"sealed_{where[6:]}_{case}".replace("-", "_")
        options = merge(through(request.getfixturevalue("shared_broker")), beside(mongodb, database))
    with ExitStack() as stack:
        theirs = start(stack, options, {"encryption": {"key": THEIRS, "other_keys": OURS}})
        ours = start(stack, options, {"encryption": CASES[case]})
        other = Api(theirs.url)
        stack.callback(other.close)
        bad_poster = other.as_client(BAD_CLIENT)
        queues = {call: f"queue-{call}" for call in CALLS}
        made = SimpleNamespace(
            api=other.at(ours.url), other=other, gateway=ours, case=case, queues=queues, bad={}, good={},
            recoverable=case not in ("damaged", "native"),
        )
        for call, queue in queues.items():
            letters = {"_max_claim_count": 1, "_dead_letter_queue": "letters"} if call == "dead-letters" else {}
            create(other, queue, _enable_encrypt_messages=case != "native", **letters)
        for part, sealed in ((BAD[:3], True), (GOOD[:1], False), (BAD[3:5], True), (GOOD[1:], False), (BAD[5:], True)):
            if case == "no-key":
                switch(other, queues.values(), sealed)
            for queue in queues.values():
                if sealed and case == "native":
                    forge(request.getfixturevalue("shared_broker"), other.project, queue, part)
                    made.bad.setdefault(queue, [None] * len(BAD))
                else:
                    # Without a key no good message can be encrypted; otherwise the gateway of the calls encrypts it.
                    posted = post(bad_poster if sealed or case == "no-key" else made.api, queue, *part)
                    (made.bad if sealed else made.good).setdefault(queue, []).extend(posted)
        if case == "damaged":
            with sqlite3.connect(folder / "marconi.db") as db:
                db.execute("UPDATE messages SET b = CAST(b || x'00' AS BLOB) WHERE u = ?", (BAD_CLIENT,))
                db.execute("UPDATE messages SET b = x'' WHERE u = ? AND s % 2048 >= 1024", (BAD_CLIENT,))
            db.close()
        if where == "hybrid-landed":
            for queue in queues.values():
                listed(other, queue)
        yield made


def forge(broker, project, queue, texts):
    """Publish messages that say that they are encrypted, as a native producer."""
    connection = broker.connect()
    channel = connection.channel()
    channel.confirm_delivery()
    for text in texts:
        number = BAD.index(text)
        properties = pika.BasicProperties(
            headers=FORGED[number], delivery_mode=2, message_id=f"forged-{number}" if number else None
        )
        channel.basic_publish("", broker_name(project, queue), text.encode() * number, properties, mandatory=True)
    connection.close()


def whole(table, queue, good=()):
    """Nothing is lost, and who has the key gets it at once, in order."""
    counts = stats(table.api, queue)
    assert counts["free"] == len(BAD) + len(good)
    expected = [body for body in ALL if body in good or (body in BAD and table.recoverable)]
    claim_id, claimed = claim(table.other, queue)
    assert bodies(claimed) == expected
    if claim_id:
        release(table.other, queue, claim_id)


def all_of(take):
    """Everything that comes until nothing does."""
    got = []
    while some := take():
        got += some
    return bodies(got)


@pytest.mark.parametrize(("call", "limit"), [("claim", 20), ("claim-one-by-one", 1)])
def test_claims(table, call, limit):
    queue = table.queues[call]
    assert all_of(lambda: claim(table.api, queue, limit, ttl=300, grace=60)[1]) == GOOD
    assert stats(table.api, queue)["claimed"] == len(GOOD)
    whole(table, queue)


@pytest.mark.parametrize(("call", "limit"), [("pop", 20), ("pop-one-by-one", 1)])
def test_pops(table, call, limit):
    queue = table.queues[call]
    assert all_of(lambda: pop(table.api, queue, limit)) == GOOD
    assert stats(table.api, queue)["total"] == len(BAD)
    whole(table, queue)


@pytest.mark.parametrize(("call", "limit"), [("list", 20), ("list-one-by-one", 1)])
def test_lists(table, call, limit):
    queue = table.queues[call]
    pages = walk(table.api, f"{messages_path(queue)}?echo=true&limit={limit}", "messages")
    assert bodies(message for page in pages for message in page) == GOOD
    whole(table, queue, GOOD)


def test_message_by_id_says_why(table):
    queue = table.queues["get"]
    assert bodies(listed(table.api, queue)) == GOOD
    for id_ in table.good[queue]:
        assert get_message(table.api, queue, id_).status_code == 200
    known = [id_ for id_ in table.bad[queue] if id_] or ["forged-1", "forged-2"]
    for id_ in known:
        answer = get_message(table.api, queue, id_)
        assert answer.status_code == (503 if table.recoverable else 409), answer.text
        assert ("Retry-After" in answer.headers) is table.recoverable
        assert answer.json()["title"] == "Message can't be decrypted" and id_ in answer.json()["description"]
    whole(table, queue, GOOD)


def test_messages_by_ids_are_those_that_can_be_shown(table):
    queue = table.queues["ids"]
    bad = [id_ for id_ in table.bad[queue] if id_] or ["forged-1", "forged-2"]
    listed(table.api, queue)
    answer = table.api.get(messages_path(queue), params={"ids": ",".join([*bad, *table.good[queue]])})
    assert answer.status_code == 200 and bodies(answer.json()["messages"]) == GOOD
    assert table.api.get(messages_path(queue), params={"ids": ",".join(bad)}).status_code in (409, 503)
    whole(table, queue, GOOD)


def test_deletes_need_no_key(table):
    queue = table.queues["delete"]
    listed(table.api, queue)
    bad = [id_ for id_ in table.bad[queue] if id_] or ["forged-1", "forged-2"]
    for id_ in bad:
        assert delete_message(table.api, queue, id_).status_code == 204
        assert get_message(table.other, queue, id_).status_code == 404
    assert stats(table.other, queue)["total"] == len(ALL) - len(bad)
    assert table.api.post(f"{queue_path(queue)}/purge").status_code == 204
    assert stats(table.other, queue)["total"] == 0


def test_claim_made_elsewhere(table):
    queue = table.queues["claimed"]
    claim_id, claimed = claim(table.other, queue, ttl=300, grace=60)
    assert len(claimed) == (len(ALL) if table.recoverable else len(GOOD))
    assert bodies(get_claim(table.api, queue, claim_id).json()["messages"]) == GOOD
    assert table.api.patch(f"{claims_path(queue)}/{claim_id}", json={"ttl": 60, "grace": 60}).status_code == 204
    bad = [message for message in claimed if message["body"] in BAD]
    for message in claimed:
        if message not in bad:
            assert table.api.delete(message["href"]).status_code == 204
    assert get_claim(table.api, queue, claim_id).status_code == (503 if bad else 404)
    for message in bad:
        assert table.api.delete(message["href"]).status_code == 204
    assert stats(table.other, queue)["claimed"] == 0


def test_vain_claims_do_not_count(table):
    """A message that went to the dead letters for being passed over would be as good as lost."""
    queue = table.queues["dead-letters"]
    for _ in range(3):
        claim_id, claimed = claim(table.api, queue)
        if claim_id:
            assert bodies(claimed) == GOOD
            for message in claimed:
                assert table.api.delete(message["href"]).status_code == 204
    whole(table, queue)
    _, letters = claim(table.other, queue)
    assert letters == [] and stats(table.other, queue)["free"] == (0 if table.recoverable else len(BAD))
    assert bodies(listed(table.api, "letters")) == []
    assert sorted(bodies(listed(table.other, "letters"))) == (BAD if table.recoverable else [])


def test_log_and_metrics_say_so_and_show_no_key(table):
    queue = table.queues["metrics"]
    assert ids(listed(table.api, queue)) == table.good[queue]
    headers = {"X-Project-ID": None, "Client-ID": None, "Accept": None}
    text = table.api.get("/metrics", headers=headers).text
    reason = "no_key" if table.recoverable else "damaged"
    assert value_of(text, f'marconi_unopened_messages_total{{reason="{reason}"}}') >= len(BAD)
    lines = [line for line in table.gateway.log_path.read_text().splitlines() if queue in line]
    assert len(lines) == 1 and "WARNING" in lines[0] and "can't be decrypted" in lines[0]
    if table.case == "other-key":
        assert ID_OF[THEIRS] in lines[0]
    assert OURS not in table.gateway.log_path.read_text() and THEIRS not in table.gateway.log_path.read_text()


@pytest.mark.parametrize("where", [pytest.param("embedded", marks=pytest.mark.thorough), "hybrid"])
def test_key_is_changed_under_two_gateways(request, start_gateway, queue, where):
    """The steps of docs/security.md, one gateway after the other; whatever one posts, both can read."""
    options = request.getfixturevalue("hybrid") if where == "hybrid" else {}
    old, new = {"key": THEIRS, "other_keys": ""}, {"key": OURS, "other_keys": ""}
    pair = [start_gateway(**options, encryption=old) for _ in range(2)]
    first = Api(pair[0].url)
    second = first.at(pair[1].url)
    create(first, queue, _enable_encrypt_messages=True)
    left = post(first, queue, "old")
    with_both = {"key": THEIRS, "other_keys": OURS}, {"key": OURS, "other_keys": THEIRS}
    for step in (*with_both, new):
        for number, gateway in enumerate(pair):
            config = gateway.config_file.read_text()
            for name, value in step.items():
                config = "\n".join(
                    f"{name} = {value}" if line.startswith(f"{name} =") else line for line in config.splitlines()
                )
            gateway.config_file.write_text(config + "\n")
            gateway.restart()
            for poster, reader in ((first, second), (second, first)):
                (posted,) = post(poster, queue, f"{step}{number}")
                if step == new:
                    assert get_message(reader, queue, posted).status_code == 200
                else:
                    assert ids(listed(reader, queue)) == [*left, posted]
                    left.append(posted)
        if step == with_both[1]:
            assert ids(pop(first, queue, 20)) == left
    assert stats(second, queue)["free"] == 4
    assert len(pop(second, queue, 20)) == 4
    first.close()
