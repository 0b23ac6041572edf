"""Tokens for trusts, and deliveries that carry them; the identity service is a function."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bridges.loopback import LoopbackBridge
from gateway.core.subscriptions.addresses import Rules
from gateway.core.subscriptions.trusts import NoToken
from gateway.notify import tester, trust_tokens
from gateway.notify.http import Answer
from gateway.notify.notifier import Notifier
from gateway.notify.settings import TOKEN_TIMEOUT, DeliverySettings, HttpSettings
from gateway.notify.trust_tokens import FetchToken, TrustTokens
from storage.sqlite import SQLiteStore
from tests.notify_receiver import OK, Receiver, wait_for
from tests.test_notify_delivery import SETTINGS, Bench

#: Seconds until a token of these tests expires.
LIFE = 3600.0


class Fetcher:
    """Gives a new token at each call, `<trust>-<number>`, when it has raised each of ``errors`` once."""

    def __init__(self, life: float = LIFE) -> None:
        self.calls: list[str] = []
        self.life = life
        self.errors: list[Exception] = []

    def __call__(self, trust_id: str) -> tuple[str, float]:
        self.calls.append(trust_id)
        if self.errors:
            raise self.errors.pop(0)
        return f"{trust_id}-{len(self.calls)}", self.life


def send(fetch: FetchToken | None, *statuses: int, trust_id: str | None = "t") -> tuple[list[Answer], list[str]]:
    """The answers to requests, and the tokens that they came with; receivers answer with these statuses."""
    left, seen = list(statuses), []

    async def sent(token: str) -> Answer:
        seen.append(token)
        return Answer(left.pop(0), 0.1, body=f"you sent {token}")

    async def all_of_them() -> list[Answer]:
        tokens = TrustTokens(fetch)
        answers = []
        while left:
            answers.append(await tokens.send(trust_id, sent))
            if not answers[-1].status:
                break
        tokens.close()
        return answers

    return asyncio.run(all_of_them()), seen


def test_token_is_kept() -> None:
    fetch = Fetcher()
    answers, tokens = send(fetch, 200, 500, 204)
    assert [answer.status for answer in answers] == [200, 500, 204]
    assert tokens == ["t-1"] * 3 and fetch.calls == ["t"]


def test_token_is_kept_until_a_minute_before_its_end() -> None:
    fetch = Fetcher(life=59.0)
    _, tokens = send(fetch, 200, 200)
    assert tokens == ["t-1", "t-2"]
    fetch = Fetcher(life=62.0)
    assert send(fetch, 200, 200)[1] == ["t-1", "t-1"]


def test_token_that_is_not_accepted_is_replaced_once() -> None:
    answers, tokens = send(Fetcher(), 200, 401, 200, 200)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert tokens == ["t-1", "t-1", "t-2", "t-2"]
    answers, tokens = send(Fetcher(), 401, 401)
    assert [answer.status for answer in answers] == [401]
    assert tokens == ["t-1", "t-2"]


def test_other_refusals_replace_no_token() -> None:
    answers, tokens = send(Fetcher(), 403, 404)
    assert [answer.status for answer in answers] == [403, 404] and tokens == ["t-1"] * 2


@pytest.mark.parametrize("error", [NoToken("Keystone is down"), RuntimeError("with a secret")])
def test_failure_is_an_answer(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    fetch = Fetcher()
    fetch.errors = [error]
    assert send(fetch, 200) == ([Answer(0, 0.0, "identity")], [])
    assert "secret" not in caplog.text


def test_nothing_is_sent_without_a_trust_or_an_identity_service() -> None:
    assert send(None, 200) == ([Answer(0, 0.0, "identity")], [])
    assert send(Fetcher(), 200, trust_id=None) == ([Answer(0, 0.0, "identity")], [])


def test_owners_do_not_see_what_may_hold_the_token() -> None:
    answers, _ = send(Fetcher(), 500)
    assert answers == [Answer(500, 0.1)]


def test_tokens_are_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    send(Fetcher(), 401, 500)
    assert "t-1" not in caplog.text
    assert "t-1" not in repr(trust_tokens._Token("t-1", 1.0))


def test_many_deliveries_wait_for_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_tokens, "TOKEN_TIMEOUT", 0.1)
    calls, go_on = [], threading.Event()

    def slow(trust_id: str) -> tuple[str, float]:
        calls.append(trust_id)
        go_on.wait(10)
        return "late", LIFE

    async def accepted(token: str) -> Answer:
        return Answer(200, 0.0)

    async def run() -> None:
        tokens = TrustTokens(slow)
        waiting = [asyncio.create_task(tokens.send("t", accepted)) for _ in range(20)]
        assert {answer.reason for answer in await asyncio.gather(*waiting)} == {"identity"}
        go_on.set()
        while tokens._coming:
            await asyncio.sleep(0.01)
        assert (await tokens.send("t", accepted)).status == 200
        tokens.close()

    asyncio.run(run())
    assert calls == ["t"]


def test_claim_lasts_for_both_requests() -> None:
    settings = DeliverySettings(HttpSettings(request_timeout=7.0))
    assert settings.timeout("https") == 7.0
    assert settings.timeout("trust+https") == 2 * (7.0 + TOKEN_TIMEOUT)


# -- deliveries -----------------------------------------------------------------------------------------------------


Start = Callable[..., Bench]


@pytest.fixture
def start(store: SQLiteStore) -> Iterator[Start]:
    """A core with a notifier: `start(fetch, trust_networks=[…])`."""
    benches: list[Bench] = []

    def begin(fetch: FetchToken | None, settings: DeliverySettings = SETTINGS, **networks: Any) -> Bench:
        bench = Bench(LoopbackBridge("loopback://", SimpleNamespace(timeout=5.0)), store)
        rules = Rules(**(networks or {"trust_networks": ["127.0.0.1/32"]}))
        bench.notifier = Notifier(bench.core, settings, lambda: rules, fetch)
        benches.append(bench)
        return bench

    yield begin
    for bench in benches:
        bench.close()


def attempts(bench: Bench, subscription: Any) -> list[tuple[int, str]]:
    status = bench.core.delivery_statuses.get(subscription.name)
    return [(each.status, each.reason) for each in status.attempts]


def test_deliveries_carry_the_token(start: Start, receiver: Receiver) -> None:
    fetch = Fetcher()
    bench = start(fetch)
    bench.subscribe(f"trust+{receiver.url}", trust_id="t", post_headers={"X-Auth-Token": "theirs"})
    bench.post(1, 2)
    wait_for(lambda: len(receiver.requests) == 2)
    assert {request.headers["x-auth-token"] for request in receiver.requests} == {"t-1"}
    assert fetch.calls == ["t"]


def test_revoked_token_is_replaced_in_the_same_attempt(start: Start, receiver: Receiver) -> None:
    receiver.answer = lambda request: OK if request.headers["x-auth-token"] == "t-2" else (401, {})
    bench = start(Fetcher())
    bench.subscribe(f"trust+{receiver.url}", trust_id="t")
    (id_,) = bench.post(1)
    wait_for(lambda: len(receiver.requests) == 2)
    assert [request.headers["webhook-id"] for request in receiver.requests] == [id_] * 2
    assert [request.headers["marconi-attempt"] for request in receiver.requests] == ["1", "1"]


def test_identity_service_that_is_down_is_a_failure_that_is_tried_again(start: Start, receiver: Receiver) -> None:
    fetch = Fetcher()
    fetch.errors = [NoToken("down")]
    bench = start(fetch)
    subscription = bench.subscribe(f"trust+{receiver.url}", trust_id="t")
    bench.post(1)
    wait_for(lambda: len(receiver.requests) == 1)
    wait_for(lambda: (0, "identity") in attempts(bench, subscription))
    assert int(receiver.requests[0].headers["marconi-attempt"]) > 1


@pytest.mark.parametrize("networks", [{"allowed_networks": ["127.0.0.1/32"]}, {"trust_networks": ["10.0.0.0/8"]}])
def test_tokens_go_without_tls_to_trust_networks_alone(start: Start, receiver: Receiver, networks: Any) -> None:
    bench = start(Fetcher(), **networks)
    subscription = bench.subscribe(f"trust+{receiver.url}", trust_id="t")
    bench.post(1)
    wait_for(lambda: (0, "address") in attempts(bench, subscription))
    assert receiver.requests == []


def test_tokens_go_to_no_proxy_without_tls(start: Start, receiver: Receiver) -> None:
    settings = DeliverySettings(HttpSettings(request_timeout=2.0, proxy=receiver.url), retry_schedule=(60,))
    fetch = Fetcher()
    bench = start(fetch, settings)
    subscription = bench.subscribe("trust+http://example.org/", trust_id="t")
    bench.post(1)
    wait_for(lambda: (0, "address") in attempts(bench, subscription))
    assert receiver.requests == [] and fetch.calls == []


def test_tests_of_owners_carry_a_token(start: Start, receiver: Receiver) -> None:
    bench = start(Fetcher())
    subscription = bench.subscribe(f"trust+{receiver.url}", trust_id="t")
    for networks, status in ({"trust_networks": ["127.0.0.1/32"]}, 200), ({"allowed_networks": ["127.0.0.1/32"]}, 0):
        rules = Rules(**networks)
        made = tester.Tester(bench.core, SETTINGS, lambda rules=rules: rules, Fetcher())  # type: ignore[misc]
        assert made.send(subscription, b"1").status == status
    assert [request.headers["x-auth-token"] for request in receiver.requests] == ["t-1"]


@pytest.mark.parametrize("address", ["8.8.8.8", "127.0.0.1", "10.0.0.1"])
def test_rule_for_tokens_without_tls(address: str) -> None:
    rules = Rules(["127.0.0.1/32"], ["10.0.0.0/8"])
    verdict = rules.judge(address, 80, trust=True, plain=True)
    assert verdict.allowed == (address == "10.0.0.1")
    assert verdict.allowed or (verdict.option == "trust_networks" and "trust_networks" in verdict.reason)
    assert rules.judge(address, 443, trust=True).allowed
    assert rules.judge(address, 80, plain=True).allowed == (address != "10.0.0.1")
