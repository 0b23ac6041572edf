"""What the passing of the shortest time to live does. All clocks start together, so it is waited for once."""

import dataclasses
import time

import pytest

from functional.api.helpers import (
    MIN_TTL,
    assert_error,
    bodies,
    claim,
    claims_path,
    create,
    delete_message,
    eventually,
    get_claim,
    get_message,
    ids,
    listed,
    messages_path,
    pop,
    post,
    release,
    stats,
)
from functional.http import Api
from functional.wait import wait_until

#: The first test of a deployment starts its services, six at a time, and waits for the clocks of all the others.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Whole seconds may be counted on both sides of the wire.
ROUNDING = 2

#: Seconds for what the side-store and the broker do at their own pace.
PATIENCE = 10.0


@dataclasses.dataclass
class Aged:
    """Messages and claims made together, of which each test owns one queue; by now their time is up."""

    api: Api
    messages: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    claims: dict[str, str] = dataclasses.field(default_factory=dict)

    def post(self, queue, *bodies, **fields):
        self.messages.setdefault(queue, []).extend(post(self.api, queue, *bodies, **fields))

    def claim(self, queue, limit=20, ttl=MIN_TTL, grace=MIN_TTL):
        self.claims[queue], _ = claim(self.api, queue, limit=limit, ttl=ttl, grace=grace)


@pytest.fixture(scope="module")
def aged(gateway):
    """Start every clock of this module, and come back when those of MIN_TTL have run out."""
    aged = Aged(Api(gateway.url))
    api = aged.api

    for queue in ("landed", "landed-alone", "landed-claim", "landed-pop", "landed-marker"):
        aged.post(queue, "short", ttl=MIN_TTL)
        aged.post(queue, "long", ttl=2 * MIN_TTL)
        assert bodies(listed(api, queue)) == ["short", "long"]
    for queue in ("waiting", "waiting-claim", "waiting-pop"):
        aged.post(queue, "short", ttl=MIN_TTL)
        aged.post(queue, "long", ttl=2 * MIN_TTL)
    aged.post("waiting-stats", "short", "short", ttl=MIN_TTL)

    for queue in (
        "freed",
        "freed-show",
        "freed-delete",
        "freed-renew",
        "freed-release",
        "freed-order",
        "freed-pop",
    ):
        aged.post(queue, "claimed")
        aged.claim(queue)
        aged.post(queue, "later")
    aged.post("freed-taken", "claimed")
    aged.claim("freed-taken")

    aged.post("renewed", "claimed")
    aged.claim("renewed")
    renewed = api.patch(f"{claims_path('renewed')}/{aged.claims['renewed']}", json={"ttl": 10 * MIN_TTL})
    assert renewed.status_code == 204, renewed.text

    aged.post("renewed-short", "claimed", ttl=MIN_TTL)
    aged.claim("renewed-short")
    renewed = api.patch(
        f"{claims_path('renewed-short')}/{aged.claims['renewed-short']}",
        json={"ttl": 10 * MIN_TTL, "grace": MIN_TTL},
    )
    assert renewed.status_code == 204, renewed.text

    aged.post("graced", "short", ttl=MIN_TTL)
    aged.claim("graced", ttl=MIN_TTL, grace=10 * MIN_TTL)

    aged.post("outlived", "short", ttl=MIN_TTL)
    aged.claim("outlived", ttl=5 * MIN_TTL)

    create(api, "poison", _max_claim_count=1, _dead_letter_queue="dead")
    aged.post("poison", "poison")
    aged.claim("poison")

    aged.post("delayed", "late", ttl=10 * MIN_TTL, delay=MIN_TTL)
    aged.post("delayed-short", "late", ttl=MIN_TTL, delay=1)

    due = time.monotonic() + MIN_TTL + ROUNDING
    wait_until(
        lambda: time.monotonic() >= due, timeout=MIN_TTL + 2 * ROUNDING, what="the shortest time to live"
    )
    yield aged
    api.close()


# Messages


def test_expired_message_is_not_listed(aged):
    assert bodies(listed(aged.api, "landed", include_claimed="true", include_delayed="true")) == ["long"]


def test_expired_message_is_not_found_by_id(aged):
    short, long = aged.messages["landed-alone"]

    assert_error(get_message(aged.api, "landed-alone", short), 404)
    found = aged.api.get(messages_path("landed-alone"), params={"ids": f"{short},{long}"})
    assert bodies(found.json()["messages"]) == ["long"]


def test_expired_message_is_not_claimed(aged):
    assert bodies(claim(aged.api, "landed-claim")[1]) == ["long"]


def test_expired_message_is_not_popped(aged):
    assert bodies(pop(aged.api, "landed-pop", 5)) == ["long"]


def test_expired_message_can_still_be_deleted(aged):
    short, long = aged.messages["landed-marker"]

    assert delete_message(aged.api, "landed-marker", short).status_code == 204
    assert ids(listed(aged.api, "landed-marker")) == [long]


def test_message_that_expired_while_waiting_is_not_listed(aged):
    assert bodies(listed(aged.api, "waiting")) == ["long"]


def test_message_that_expired_while_waiting_is_not_claimed(aged):
    assert bodies(claim(aged.api, "waiting-claim")[1]) == ["long"]


def test_message_that_expired_while_waiting_is_not_popped(aged):
    assert bodies(pop(aged.api, "waiting-pop", 5)) == ["long"]


def test_expired_messages_leave_the_stats(aged):
    # A broker may count what has expired until somebody looks at the queue.
    assert listed(aged.api, "waiting-stats") == []

    eventually(lambda: stats(aged.api, "waiting-stats")["total"] == 0, seconds=PATIENCE)


def test_age_of_a_message_counts_from_its_post(aged):
    (message,) = [found for found in listed(aged.api, "waiting") if found["body"] == "long"]

    assert MIN_TTL <= message["age"] < 2 * MIN_TTL


def test_delayed_message_is_there_after_its_delay(aged):
    assert bodies(listed(aged.api, "delayed")) == ["late"]


def test_delay_does_not_lengthen_the_life_of_a_message(aged):
    assert listed(aged.api, "delayed-short", include_delayed="true") == []


# Claims


def test_messages_of_an_expired_claim_are_free(aged):
    assert bodies(listed(aged.api, "freed")) == ["claimed", "later"]
    assert bodies(claim(aged.api, "freed")[1]) == ["claimed", "later"]


def test_messages_of_an_expired_claim_come_before_newer_ones(aged):
    assert bodies(claim(aged.api, "freed-order", limit=1)[1]) == ["claimed"]


def test_messages_of_an_expired_claim_can_be_popped(aged):
    assert bodies(pop(aged.api, "freed-pop", 5)) == ["claimed", "later"]


def test_expired_claim_is_404(aged):
    assert_error(get_claim(aged.api, "freed-show", aged.claims["freed-show"]), 404)


def test_expired_claim_cannot_be_renewed(aged):
    path = f"{claims_path('freed-renew')}/{aged.claims['freed-renew']}"

    assert_error(aged.api.patch(path, json={"ttl": 300}), 404)
    assert bodies(claim(aged.api, "freed-renew")[1]) == ["claimed", "later"]


def test_release_of_an_expired_claim_answers_204(aged):
    release(aged.api, "freed-release", aged.claims["freed-release"])

    assert bodies(listed(aged.api, "freed-release")) == ["claimed", "later"]


def test_expired_claim_cannot_delete(aged):
    message_id = aged.messages["freed-delete"][0]

    response = delete_message(aged.api, "freed-delete", message_id, claim_id=aged.claims["freed-delete"])

    assert_error(response, 400)
    assert get_message(aged.api, "freed-delete", message_id).status_code == 200


def test_expired_claim_cannot_delete_what_another_claim_holds(aged):
    (message_id,) = aged.messages["freed-taken"]
    new_claim, messages = claim(aged.api, "freed-taken")
    assert ids(messages) == [message_id]

    response = delete_message(aged.api, "freed-taken", message_id, claim_id=aged.claims["freed-taken"])

    assert response.status_code in (400, 403)
    assert ids(get_claim(aged.api, "freed-taken", new_claim).json()["messages"]) == [message_id]


def test_renewed_claim_stays(aged):
    shown = get_claim(aged.api, "renewed", aged.claims["renewed"]).json()

    assert bodies(shown["messages"]) == ["claimed"]
    assert MIN_TTL <= shown["age"] < 10 * MIN_TTL
    assert claim(aged.api, "renewed") == (None, [])


def test_renewed_claim_can_delete(aged):
    (message_id,) = aged.messages["renewed-short"]

    response = delete_message(aged.api, "renewed-short", message_id, claim_id=aged.claims["renewed-short"])

    assert response.status_code == 204
    assert_error(get_message(aged.api, "renewed-short", message_id), 404)


def test_grace_keeps_a_message_living_after_its_claim(aged):
    assert bodies(listed(aged.api, "graced")) == ["short"]
    assert bodies(claim(aged.api, "graced")[1]) == ["short"]


def test_claim_keeps_its_messages_living(aged):
    shown = get_claim(aged.api, "outlived", aged.claims["outlived"])

    assert bodies(shown.json()["messages"]) == ["short"]
    (message_id,) = aged.messages["outlived"]
    response = delete_message(aged.api, "outlived", message_id, claim_id=aged.claims["outlived"])
    assert response.status_code == 204


def test_message_whose_last_claim_expired_goes_to_the_dead_letter_queue(aged):
    def dead_letters():
        assert claim(aged.api, "poison") == (None, [])
        return listed(aged.api, "dead")

    assert bodies(eventually(dead_letters, seconds=PATIENCE)) == ["poison"]
