"""Rule 8 while something is under way: what a gateway has asked of MongoDB is kept back while others go on.

A speaks with MongoDB through a proxy that stops certain commands; B does not.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import requests

from functional.api.helpers import (
    bodies,
    claim,
    claims_path,
    create,
    get_message,
    ids,
    listed,
    messages_path,
    next_link,
    page,
    post,
    queue_path,
)
from functional.brokers import Broker
from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.installed import require
from functional.services.gateway import Gateway, merge
from functional.services.mongodb import MongoDB
from functional.services.mongodb_proxy import (
    MongoDBProxy,
    claims,
    deletes,
    finds,
    lands,
)
from functional.services.process import start_together
from functional.wait import wait_until
from gateway.core.queues.names import broker_name

#: [side_store] timeout of the gateways: a lease lasts five seconds longer.
STORE_TIMEOUT = 3
LEASE = STORE_TIMEOUT + 5 + 1

#: Seconds after which something that waits for another gateway is let go on.
MEANWHILE = 1.0

#: Seconds that a pop has, with a margin for what gateways think the time is: the claim that it makes lasts 60.
CLAIM_OVER = 63.0

#: Seconds more that a busy machine may need until it is over: the gateway may have begun it late.
OVER_AT_LAST = 10.0

#: Seconds that the client of a stopped gateway waits.
PATIENCE = 120.0


@dataclass(frozen=True)
class Gateways:
    """A, which can be stopped, behind its proxy; and B."""

    first: Gateway
    second: Gateway
    proxy: MongoDBProxy


@pytest.fixture(scope="module")
def two(shared_broker: Broker, mongodb: MongoDB) -> Iterator[Gateways]:
    """The two gateways, for all tests of this module."""
    database = f"two_{uuid.uuid4().hex[:12]}"
    common = merge(COMMON, through(shared_broker), {"side_store": {"timeout": STORE_TIMEOUT}})
    with MongoDBProxy(mongodb) as proxy:
        behind = merge(common, {"side_store": {"uri": proxy.database_uri(database)}})
        a, b = require(lambda: Gateway(behind)), require(lambda: Gateway(merge(common, beside(mongodb, database))))
        try:
            start_together([a, b])
            yield Gateways(a, b, proxy)
        finally:
            a.close()
            b.close()


@pytest.fixture
def proxy(two: Gateways) -> MongoDBProxy:
    """What is between A and MongoDB."""
    return two.proxy


@pytest.fixture
def a(two: Gateways, proxy: MongoDBProxy) -> Iterator[Api]:
    """A client of the gateway behind the proxy, which has said something to MongoDB lately."""
    client = Api(two.first.url)
    assert client.get("/v2/ping").status_code == 204
    yield client
    client.close()


@pytest.fixture
def b(two: Gateways, a: Api) -> Iterator[Api]:
    """Another client of the same project, at the other gateway."""
    client = Api(two.second.url, a.project)
    yield client
    client.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Future[requests.Response]]]:
    """Begin a call that others come in between of."""
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


def take(api: Api, queue: str, how: str) -> requests.Response:
    """What fetches messages and lands them."""
    if how == "claim":
        return api.post(claims_path(queue), json={"ttl": 300, "grace": 60})
    return api.get(messages_path(queue), params={"echo": "true"})


def taken(answer: requests.Response) -> list[str]:
    """The ids in the answer to a claim, a pop or a list."""
    assert answer.status_code in (200, 201, 204, 503), answer.text
    return ids(answer.json()["messages"]) if answer.status_code in (200, 201) else []


def left(api: Api, queue: str) -> list[str]:
    """All that a queue has, claimed or not."""
    return ids(listed(api, queue, include_claimed="true", include_delayed="true"))


class TestFetchedAndNotYetLanded:
    """A has taken messages off the broker, and its insert is on the way."""

    @pytest.mark.parametrize("by", ["id", "ids"])
    @pytest.mark.parametrize("how", ["claim", "list"])
    def test_delete_by_another_gateway_is_done(self, a, b, proxy, queue, start, how, by):
        (id_,) = post(b, queue, "doomed")
        with proxy.hold(lands) as insert:
            taking = start(take, a, queue, how)
            insert.until_reached()
            if by == "id":
                deleting = start(b.delete, f"{messages_path(queue)}/{id_}")
            else:
                deleting = start(b.delete, messages_path(queue), params={"ids": id_})
            time.sleep(MEANWHILE)
            insert.release()
            deleted, answer = deleting.result(), taking.result()
        there = get_message(b, queue, id_).status_code == 200
        if deleted.status_code == 503:
            return  # which promises nothing
        if how == "claim" and id_ in taken(answer):  # the claim came first
            assert there, "the claim's message has been deleted without the claim's id"
            assert by == "ids" or deleted.status_code == 403
            return
        assert deleted.status_code == 204
        assert not there
        assert left(a, queue) == left(b, queue) == []
        assert claim(b, queue) == claim(a, queue) == (None, [])

    @pytest.mark.parametrize("how", ["list"])
    def test_message_is_there_for_another_gateway(self, a, b, proxy, queue, start, how):
        """It has been posted and nobody has deleted it.

        Not for claims, which leave no trace until they have landed (docs/architecture.md).
        """
        (id_,) = post(b, queue, "x")
        with proxy.hold(lands) as insert:
            taking = start(take, a, queue, how)
            insert.until_reached()
            getting = start(get_message, b, queue, id_)
            getting_many = start(b.get, messages_path(queue), params={"ids": id_})
            time.sleep(MEANWHILE)
            insert.release()
            taking.result()
            assert getting.result().status_code in (200, 503)
            assert getting_many.result().status_code in (200, 503)
        assert get_message(b, queue, id_).status_code == 200

    @pytest.mark.parametrize("how", ["claim", "list"])
    def test_wrong_claim_id_is_refused_by_another_gateway(self, a, b, proxy, queue, start, how):
        """Or, where nothing is known of the message, it is deleted: a 204 is true in any case."""
        (id_,) = post(b, queue, "x")
        with proxy.hold(lands) as insert:
            taking = start(take, a, queue, how)
            insert.until_reached()
            deleting = start(b.delete, f"{messages_path(queue)}/{id_}", params={"claim_id": "invalid"})
            time.sleep(MEANWHILE)
            insert.release()
            taking.result()
            deleted = deleting.result().status_code == 204
            assert deleting.result().status_code in (204, 400, 403, 503)
        assert not (deleted and how == "list")
        assert get_message(b, queue, id_).status_code == (404 if deleted else 200)

    @pytest.mark.parametrize("again", [False, True], ids=["stays-deleted", "made-again"])
    @pytest.mark.parametrize("how", ["claim", "list"])
    def test_nothing_lands_in_the_next_queue_of_that_name(self, a, b, proxy, queue, start, how, again):
        posted = post(b, queue, 1, 2, 3)
        with proxy.hold(lands) as insert:
            taking = start(take, a, queue, how)
            insert.until_reached()
            deleting = start(b.delete, queue_path(queue))
            time.sleep(MEANWHILE)
            if again and deleting.done() and deleting.result().status_code == 204:
                create(b, queue)
            insert.release()
            taking.result()
            if deleting.result().status_code == 503:  # no promise, so once more
                assert b.delete(queue_path(queue)).status_code == 204
        if b.head(queue_path(queue)).status_code == 404:
            create(b, queue)
        for api in (a, b):
            assert left(api, queue) == []
            assert all(get_message(api, queue, id_).status_code == 404 for id_ in posted)
            assert claim(api, queue) == (None, [])
        (new,) = post(a, queue, "new")
        assert left(b, queue) == [new]

    @pytest.mark.parametrize("how", ["claim", "list"])
    def test_purge_by_another_gateway_is_done(self, a, b, proxy, queue, start, how):
        posted = post(b, queue, 1, 2, 3)
        with proxy.hold(lands) as insert:
            taking = start(take, a, queue, how)
            insert.until_reached()
            purging = start(b.post, f"{queue_path(queue)}/purge")
            time.sleep(MEANWHILE)
            insert.release()
            got, purged = taken(taking.result()), purging.result()
        if purged.status_code == 503:
            return
        assert purged.status_code == 204
        if how == "list" or got != posted:  # a claim may have come after the posts and before the purge: then gone too
            assert left(b, queue) == left(a, queue) == []
        assert claim(b, queue) == (None, [])


class TestDelayedPostUnderWay:
    """A's insert of a delayed message is on the way while B deletes the queue."""

    @pytest.mark.parametrize("again", [False, True], ids=["stays-deleted", "made-again"])
    def test_answer_of_201_means_that_it_is_found(self, a, b, proxy, queue, start, again):
        post(a, queue, "old")
        with proxy.hold(lands) as insert:
            posting = start(
                a.post, messages_path(queue), json={"messages": [{"body": "late", "ttl": 300, "delay": 60}]}
            )
            insert.until_reached()
            deleting = start(b.delete, queue_path(queue))
            time.sleep(MEANWHILE / 2)
            if again and deleting.done():
                create(b, queue)
            insert.release()
            answer = posting.result()
            assert deleting.result().status_code == 204
        found = left(b, queue)
        if b.head(queue_path(queue)).status_code == 404:
            assert found == [], "messages of a queue that does not exist are listed"
            create(b, queue)
            assert left(b, queue) == [], "the message has come back with the queue"
        # The post may have been first, and its message gone with the queue.
        assert answer.status_code in (201, 503), answer.text


class TestWhatIsReadTooLate:
    """A has asked for a queue's document, and the answer is on the way while others change it."""

    def test_stale_absence_does_not_hide_a_queue_of_this_process(self, a, b, proxy, queue, start):
        with proxy.hold(finds("queues"), answer=True) as looked:
            polling = start(a.get, messages_path(queue))
            looked.until_reached()
            (id_,) = post(a, queue, "x")
            looked.release()
            assert polling.result().status_code == 200
        assert get_message(a, queue, id_).status_code == 200
        assert ids(claim(a, queue)[1]) == [id_]
        post(a, queue, "y")

    def test_stale_document_does_not_undo_encryption_of_this_process(self, a, b, proxy, queue, start, pika_connection):
        create(b, queue)
        with proxy.hold(finds("queues"), answer=True) as looked:
            polling = start(a.get, messages_path(queue))
            looked.until_reached()
            answer = a.put(queue_path(queue), json={"_enable_encrypt_messages": True})
            assert answer.status_code == 204
            looked.release()
            polling.result()
        post(a, queue, "in clear")
        _, _, body = pika_connection().channel().basic_get(broker_name(a.project, queue), auto_ack=True)
        assert body is not None and b"in clear" not in body

    def test_first_post_beside_a_delete_is_no_conflict(self, a, b, proxy, queue, start):
        post(a, queue, "old")
        time.sleep(1.2)  # A asks again
        with proxy.hold(finds("queues"), answer=True) as looked:
            posting = start(a.post, messages_path(queue), json={"messages": [{"body": "new"}]})
            looked.until_reached()
            assert b.delete(queue_path(queue)).status_code == 204
            looked.release()
            answer = posting.result()
        assert answer.status_code == 201, answer.text
        assert bodies(listed(b, queue)) == ["new"]


class TestAnswerThatIsLost:
    """MongoDB has done what A has asked for, and its answer does not arrive."""

    def test_landed_message_does_not_come_back_after_it_was_deleted(self, a, b, proxy, queue, start):
        (id_,) = post(b, queue, "once")
        with proxy.hold(lands, answer=True) as insert:
            listing = start(take, a, queue, "list")
            insert.until_reached()
            messages = wait_until(lambda: _claimed(b, queue), 10, "the landed message")
            assert ids(messages) == [id_]
            assert b.delete(messages[0]["href"]).status_code == 204
            insert.lose()
            listing.result()
        assert get_message(b, queue, id_).status_code == 404
        assert left(b, queue) == left(a, queue) == []
        assert claim(b, queue) == claim(a, queue) == (None, [])

    def test_landed_messages_are_not_lost(self, a, b, proxy, queue, start):
        posted = post(b, queue, 1, 2, 3)
        with proxy.hold(lands, answer=True) as insert:
            listing = start(take, a, queue, "list")
            insert.until_reached()
            insert.lose()
            assert taken(listing.result()) in ([], posted)
        assert wait_until(lambda: _left(b, queue) == posted, LEASE + 5, "the messages")

    def test_claimed_messages_are_not_lost(self, a, b, proxy, queue, start):
        posted = post(b, queue, 1, 2, 3)
        with proxy.hold(lands, answer=True) as insert:
            claiming = start(take, a, queue, "claim")
            insert.until_reached()
            insert.lose()
            got = taken(claiming.result())
        if got:
            assert got == posted
            assert claim(b, queue) == (None, [])
        else:
            assert wait_until(lambda: _claimed(b, queue), LEASE + 5, "the messages")

    @pytest.mark.parametrize("path", ["id", "ids"])
    def test_delete_whose_answer_is_lost_is_done(self, a, b, proxy, queue, start, path):
        (id_,) = post(b, queue, 1)
        listed(b, queue)
        with proxy.hold(deletes("messages"), answer=True) as delete:
            if path == "id":
                deleting = start(a.delete, f"{messages_path(queue)}/{id_}")
            else:
                deleting = start(a.delete, messages_path(queue), params={"ids": id_})
            delete.until_reached()
            delete.lose()
            assert deleting.result().status_code in (204, 503)
        assert left(b, queue) == []

    def test_claimed_delete_whose_answer_is_lost_is_done(self, a, b, proxy, queue, start):
        post(b, queue, 1)
        _, (message,) = claim(b, queue)
        with proxy.hold(deletes("messages"), answer=True) as delete:
            deleting = start(a.delete, message["href"])
            delete.until_reached()
            delete.lose()
            assert deleting.result().status_code in (204, 503)
        assert left(b, queue) == []

    def test_pop_whose_deletes_answer_is_lost(self, a, b, proxy, queue, start):
        posted = post(b, queue, 1, 2)
        listed(b, queue)
        with proxy.hold(deletes("messages"), answer=True) as delete:
            popping = start(a.delete, messages_path(queue), params={"pop": 2})
            delete.until_reached()
            delete.lose()
            answer = popping.result()
        # They are deleted: either the answer has them, or it says that something went wrong.
        assert answer.status_code == 503 or ids(answer.json()["messages"]) == posted


def _claimed(api: Api, queue: str) -> list | None:
    """The messages that a claim gets; None if there are none or another gateway is in the way."""
    answer = api.post(claims_path(queue), json={"ttl": 300, "grace": 60})
    assert answer.status_code in (201, 204, 503), answer.text
    return answer.json()["messages"] if answer.status_code == 201 else None


def _left(api: Api, queue: str) -> list[str] | None:
    """All that a queue has; None if another gateway is in the way."""
    params = {"echo": "true", "include_claimed": "true", "include_delayed": "true", "limit": 20}
    answer = api.get(messages_path(queue), params=params)
    assert answer.status_code in (200, 503), answer.text
    return ids(answer.json()["messages"]) if answer.status_code == 200 else None


@pytest.fixture
def stopped(two: Gateways) -> Iterator[Callable[[], None]]:
    """Stop A as a whole; it goes on after the test at the latest."""
    yield two.first.pause
    two.first.resume()


def _claim_with_messages(api, queue):
    """A claim on the queue's messages, and these; None if there are none."""
    found = claim(api, queue, ttl=300, grace=60)
    return found if found[1] else None


class TestGatewayThatIsStopped:
    """A is stopped for longer than what it has claimed or leased."""

    @pytest.mark.parametrize("before_it_goes_on", [False, True], ids=["goes-on", "is-heard-first"])
    def test_follower_of_markers_misses_nothing(self, two, a, b, proxy, queue, start, stopped, before_it_goes_on):
        """A has numbered messages and is about to insert them; its lease is over when it does."""
        self.follow(two, a, b, proxy, queue, start, stopped, LEASE + 10, before_it_goes_on)

    def follow(self, two, a, b, proxy, queue, start, stopped, seconds, heard_first):
        """Follow markers through B while A is stopped before it lands, and after that."""
        first = post(b, queue, 1, 2, 3)
        with proxy.hold(lands) as landing:
            listing = start(a.get, messages_path(queue), params={"echo": "true"}, timeout=PATIENCE)
            landing.until_reached()
            stopped()
            second = post(b, queue, 4, 5)
            seen, path = self.walk(b, f"{messages_path(queue)}?echo=true&limit=2", len(second), seconds)
            assert len(seen) >= len(second), "nobody else can list while one gateway is stopped"
            if heard_first:  # MongoDB has heard it before A goes on
                landing.release()
                time.sleep(0.5)
            two.first.resume()
            landing.release()
            taken(listing.result())
        more, _ = self.walk(b, path, len(first + second) - len(seen), 10.0)
        assert sorted(seen + more) == sorted(first + second)

    @staticmethod
    def walk(api: Api, path: str, count: int, seconds: float) -> tuple[list[str], str]:
        """Follow markers until there are so many messages or the time is up; their ids, and where it goes on."""
        seen: list[str] = []
        end = time.monotonic() + seconds
        while len(seen) < count and time.monotonic() < end:
            answer = api.get(path)
            assert answer.status_code in (200, 503), answer.text
            if answer.status_code == 200:
                seen += ids(answer.json()["messages"])
                path = next_link(answer.json()) or path
            time.sleep(0.05)
        return seen, path

    @pytest.mark.slow
    def test_what_it_had_claimed_is_not_its_own_any_more(self, two, a, b, proxy, queue, start, stopped):
        """Three calls through A have claimed, and it is stopped before it hears of that: two pops and a claim.

        Of the first pop's messages and the claim's somebody else has got hold when it goes on.
        """
        taken_away, untouched, claimed = names = [f"{queue}-{number}" for number in range(3)]
        posted = {name: post(b, name, 1, 2) for name in names}
        for name in names:
            listed(b, name)
        calls = {}
        with ExitStack() as stack:
            holds = []
            for name in names:
                holds.append(stack.enter_context(proxy.hold(claims, answer=True)))
                if name == claimed:
                    body = {"ttl": 60, "grace": 60}
                    calls[name] = start(a.post, claims_path(name), json=body, timeout=PATIENCE)
                else:
                    calls[name] = start(a.delete, messages_path(name), params={"pop": 2}, timeout=PATIENCE)
                holds[-1].until_reached()
            stopped()
            for hold in holds:
                hold.release()
            time.sleep(CLAIM_OVER)
            held = {
                name: wait_until(lambda name=name: _claim_with_messages(b, name), OVER_AT_LAST, "A's claim to end")
                for name in (taken_away, claimed)
            }
            assert {name: ids(messages) for name, (_, messages) in held.items()} == {
                name: posted[name] for name in held
            }, "the claims of A are not over"
            two.first.resume()
            answers = {name: call.result() for name, call in calls.items()}

        assert taken(answers[taken_away]) == [], "popped what another consumer holds"
        assert taken(answers[untouched]) + ids(page(b, untouched)["messages"]) == posted[untouched]
        if answers[claimed].status_code == 201:  # late, and of no use
            for message in answers[claimed].json()["messages"]:
                assert a.delete(message["href"]).status_code == 403
            assert a.patch(answers[claimed].headers["Location"], json={"ttl": 60}).status_code == 404
        for name, (claim_id, _) in held.items():
            assert ids(b.get(f"{claims_path(name)}/{claim_id}").json()["messages"]) == posted[name]
