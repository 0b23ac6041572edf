"""The checker of the fault harness: it must see every broken promise, and none where all were kept."""

import subprocess
import sys

import pytest

from functional.faults.checker import FINAL, ORDER, SENT_AGAIN, check
from functional.faults.groups import DELAYED, IN_ORDER, LISTED_IN_ORDER, ONE_CLAIM
from functional.faults.history import CLAIM, DELETE, GET, LIST, POP, POST, RELEASE, RENEW, Call, Fault, History, Seen

QUEUE = "q"
GATEWAY = "g"


def message(number, claim_count=0):
    return Seen(f"id-{number}", "p", number, claim_count)


class Story:
    """A history in the making: each call takes 0.1 s and begins a second after the last one, unless it says when."""

    def __init__(self):
        self.history = History()
        self.at = 0.0

    def call(self, kind, client="c", *, at=None, status=200, **details):
        self.at = self.at + 1 if at is None else at
        call = Call(kind, client, GATEWAY, QUEUE, self.at, self.at + 0.1, status, **details)
        self.history.add(call)
        return self

    def post(self, *numbers, status=201, ttl=3600, **details):
        ids = [f"id-{n}" for n in numbers] if status == 201 else []
        return self.call(POST, "p", status=status, numbers=list(numbers), ids=ids, ttl=ttl, **details)

    def claim(self, *numbers, claim="a", status=201, ttl=60, **details):
        return self.call(CLAIM, status=status, claim=claim, ttl=ttl, seen=[message(n) for n in numbers], **details)

    def delete(self, number, claim="a", status=204, **details):
        return self.call(DELETE, status=status, ids=[f"id-{number}"], claim=claim, **details)

    def pop(self, *numbers, status=200, **details):
        return self.call(POP, status=status, seen=[message(n) for n in numbers], **details)

    def list(self, *numbers, walk="w", **details):
        return self.call(LIST, walk=walk, seen=[message(n) for n in numbers], **details)

    def end(self, *numbers, **details):
        return self.list(*numbers, walk=FINAL, **details)

    def fault(self, begun, mended, victim="elsewhere"):
        self.history.faults.append(Fault("trouble", victim, begun, mended, mended))
        return self

    def rules(self):
        return {violation.rule for violation in check(self.history).violations}


def test_ordinary_life_breaks_no_rule():
    story = Story().post(1, 2, 3).list(1, 2).claim(1, 2).delete(1).call(RENEW, status=204, claim="a", ttl=60).delete(2)
    report = check(story.claim(3, claim="b").call(RELEASE, status=204, claim="b").end(3).history)
    assert not report.violations
    assert (report.counts["confirmed"], report.counts["acknowledged"], report.counts["left"]) == (3, 2, 1)
    assert (report.counts["lost"], report.counts["two live claims"]) == (0, 0)


@pytest.mark.parametrize(
    "story",
    [
        Story().post(1, 2).end(1),
        Story().post(1).claim(1).end(),
        Story().post(1).claim(1).delete(1, status=403).end(),
    ],
    ids=["never delivered", "delivered, not deleted", "delete refused"],
)
def test_confirmed_message_that_is_nowhere_is_lost(story):
    assert "nothing confirmed is lost" in story.rules()


@pytest.mark.parametrize(
    "story",
    [
        Story().post(1, status=503).end(),
        Story().post(1, status=None).fault(0, 2, GATEWAY).end(),
        Story().post(1).delete(1, status=503).end(),
        Story().post(1).pop(1).end(),
        Story().post(1).pop(status=503).end(),
        Story().post(1, ttl=60).end(at=100),
    ],
    ids=["post failed", "post unanswered", "perhaps deleted", "popped", "perhaps popped", "expired"],
)
def test_message_that_need_not_be_there_is_not_lost(story):
    assert story.rules() == set()


def test_two_live_claims():
    assert "one claim holds a message" in Story().post(1).claim(1).claim(1, claim="b").end(1).rules()


@pytest.mark.parametrize(
    "story",
    [
        Story().post(1).claim(1).claim(1, claim="b", at=63).end(1),
        Story().post(1).claim(1).call(RELEASE, status=204, claim="a").claim(1, claim="b").end(1),
        Story().post(1).claim(1).call(RELEASE, status=None, claim="a").fault(0, 9, GATEWAY).claim(1, claim="b").end(1),
    ],
    ids=["expired", "released", "perhaps released"],
)
def test_claim_after_the_end_of_another(story):
    assert story.rules() == set()


def test_renewed_claim_goes_on():
    story = Story().post(1).claim(1).call(RENEW, status=204, claim="a", ttl=60, at=50)
    assert "one claim holds a message" in story.claim(1, claim="b", at=100).end(1).rules()


def test_delete_by_a_claim_that_is_over_must_not_work_while_another_holds_the_message():
    story = Story().post(1).claim(1).call(RELEASE, status=204, claim="a").claim(1, claim="b")
    assert "only its claim deletes a claimed message" in story.delete(1, claim="a").end().rules()


def test_delete_of_what_is_gone_is_right():
    story = Story().post(1).claim(1).call(RELEASE, status=204, claim="a").claim(1, claim="b").delete(1, claim="b")
    assert story.delete(1, claim="a").end().rules() == set()


def test_deleted_message_must_not_come_back():
    assert "deleted stays deleted" in Story().post(1).claim(1).delete(1).claim(1, claim="b").end(1).rules()
    assert "deleted stays deleted" in Story().post(1).pop(1).pop(1).end().rules()


def test_message_that_was_perhaps_sent_twice_may_come_back_once():
    """The broker was slow to confirm, so the gateway sent it once more."""
    story = Story().post(1)
    story.history.calls[0].returned += SENT_AGAIN
    once = story.claim(1).delete(1).claim(1, claim="b").delete(1, claim="b").end()
    assert once.rules() == set()
    assert "deleted stays deleted" in once.claim(1, claim="c").rules()


def test_deleted_message_may_come_back_once_for_each_fault():
    once = Story().post(1).claim(1).delete(1).fault(1, 3).claim(1, claim="b").delete(1, claim="b")
    assert once.end().rules() == set()
    assert check(once.history).counts["delivered again after delete"] == 1
    assert "deleted stays deleted" in once.claim(1, claim="c").rules()


@pytest.mark.parametrize(
    "story",
    [
        Story().post(1).post(2).claim(2).claim(1, claim="b").end(1, 2),
        Story().post(1, 2).claim(2, 1).end(1, 2),
        Story().post(1, 2).pop(2).pop(1).end(),
    ],
    ids=["two claims", "one claim", "pops"],
)
def test_order_of_a_producer(story):
    assert story.rules() == {"first in, first out"}


@pytest.mark.parametrize(
    "story",
    [
        Story().post(1, 2).claim(2, at=5).claim(1, claim="b", at=5.05).end(1, 2),
        Story().post(1, 2).call(CLAIM, status=503).claim(2).claim(1, claim="b").end(1, 2),
        Story().post(1, status=503).post(2).claim(2).claim(1, claim="b").end(1, 2),
    ],
    ids=["at once", "in the hand of a failed claim", "not confirmed"],
)
def test_order_that_nobody_promised(story):
    assert story.rules() == set()


def test_walk_that_misses_a_message():
    assert Story().post(1).post(2).list(2).list().end(1, 2).rules() == {"a walk misses no free message"}


def test_walk_that_meets_messages_out_of_order():
    assert Story().post(1).post(2).list(2).list(1).end(1, 2).rules() == {ORDER}
    assert Story().post(1).post(2).list(2, 1).end(1, 2).rules() == {ORDER}
    assert not Story().post(1).call(LIST, status=503).post(2).list(2).list(1).end(1, 2).rules(), "it may have been held"
    assert not Story().post(1).post(2).claim(1).list(2).call(RELEASE, status=204, claim="a").list(1).end(1, 2).rules()


def test_walk_that_sees_a_message_twice():
    assert Story().post(1).list(1).list(1).end(1).rules() == {"a walk sees no message twice"}


def test_message_that_can_not_be_read():
    story = Story().post(1).call(GET, status=404, ids=["id-1"])
    assert story.end(1).rules() == {"what is there can be read"}


def test_expired_message_is_returned():
    assert "expired is never returned" in Story().post(1, ttl=60).end(1, at=70).rules()


def test_message_that_nobody_posted():
    assert Story().post(1).end(1, 2).rules() == {"nothing is made up"}


def test_message_with_two_ids():
    story = Story().post(1).call(GET, ids=["id-1"], seen=[Seen("other", "p", 1)])
    assert story.end(1).rules() == {"a message keeps its id"}


def test_answers_that_were_not_designed():
    assert Story().post(1, status=500).end().rules() == {"only designed answers"}
    assert Story().post(1, status=None).end().rules() == {"every call is answered"}


def test_violation_comes_with_its_message_s_story():
    lines = list(check(Story().post(1).fault(1, 2).claim(1).end().history).lines())
    told = "\n".join(lines)
    assert "VIOLATION: nothing confirmed is lost" in told
    assert "post q by p" in told and "FAULT trouble" in told and "claim q by c" in told


# -- FIFO queues ------------------------------------------------------------------------------------------------------


class Groups(Story):
    """The same in a FIFO queue: all messages are of one group unless a post says otherwise."""

    def post(self, *numbers, groups=None, **details):
        return super().post(*numbers, groups=groups or ["g"] * len(numbers), **details)


def test_ordinary_life_of_groups_breaks_no_rule():
    story = Groups().post(1, 2, 3).post(4, 5, groups=["g", "h"]).claim(1, 2).claim(5, claim="b").delete(1)
    story.call(RELEASE, status=204, claim="a").claim(2, 3, claim="c").delete(2, claim="c").delete(3, claim="c")
    story.pop(4).delete(5, claim="b").post(6).list(6).end(6)
    report = check(story.history)
    assert not report.violations
    assert report.counts["handed out of groups"] == 6
    assert (report.counts["out of order in a group"], report.counts["two live claims in a group"]) == (0, 0)


@pytest.mark.parametrize(
    "story",
    [
        Groups().post(1).post(2).claim(2).end(1, 2),
        Groups().post(1, 2).claim(2, 1).end(1, 2),
        Groups().post(1).post(2).pop(2).pop(1).end(),
        Groups().post(1).post(2).claim(1).claim(2, claim="b", at=70).end(1, 2, at=71),
        Groups().post(1).post(2).claim(1).call(RELEASE, status=204, claim="a").claim(2, claim="b").end(1, 2),
        Groups().post(1).post(2).claim(1).delete(1, status=403).claim(2, claim="b", at=70).end(1, 2),
        Groups().post(1).post(2).call(CLAIM, status=503).fault(3, 3).claim(2).end(1, 2),
        Groups().post(1).post(2, status=503).claim(2).end(1, 2),
        Groups().post(1, delay=9).post(2).claim(2).end(1, 2),
        Groups().post(1).post(2).claim(1).delete(1, status=503).claim(2, claim="b").claim(1, at=80).end(1, 2),
    ],
    ids=[
        "never delivered", "one claim", "pops", "expired", "released", "delete refused", "after a failed claim",
        "by one not confirmed", "delayed", "perhaps deleted, yet there later",
    ],
)
def test_message_of_a_group_that_is_handed_out_too_early(story):
    assert IN_ORDER in story.rules()
    assert check(story.history).counts["out of order in a group"] == 1


@pytest.mark.parametrize(
    "story",
    [
        Groups().post(1).post(2, groups=["h"]).claim(2).claim(1, claim="b").end(1, 2),
        Groups().post(1, at=1).post(2, at=1.05).claim(2).delete(2).claim(1, claim="b").end(1),
        Groups().post(1, status=503).post(2).claim(2).end(2),
        Groups().post(1).post(2).claim(1).delete(1, status=503).claim(2, claim="b").end(2),
        Groups().post(1).post(2).pop(status=503).claim(2).end(2),
        Groups().post(1, ttl=60).post(2).claim(2, at=70).end(2),
        Groups().post(1, 2).claim(1, 2).delete(2).claim(1, claim="b", at=70).end(1),
    ],
    ids=["other group", "at once", "not confirmed", "perhaps deleted", "perhaps popped", "expired", "deleted first"],
)
def test_order_in_a_group_that_nobody_promised(story):
    assert story.rules() == set()


def test_order_of_a_group_is_that_of_all_producers():
    story = Groups().post(1)
    story.call(POST, "other", status=201, numbers=[1], ids=["id-other"], groups=["g"], ttl=3600)
    story.call(CLAIM, status=201, claim="a", ttl=60, seen=[Seen("id-other", "other", 1)])
    assert story.end(1, at=9).rules() == {IN_ORDER, "nothing confirmed is lost"}


@pytest.mark.parametrize(
    "story",
    [
        Groups().post(1, at=1).post(2, at=1.05).claim(2).claim(1, claim="b").end(1, 2),
        Groups().post(1, at=1).post(2, at=1.05).claim(2).pop(1).end(2),
        Groups().post(1, at=1).post(2, at=1.05).claim(2).call(RENEW, status=204, claim="a", ttl=60, at=70)
        .claim(1, claim="b").end(1, 2),
    ],
    ids=["claims", "a claim and a pop", "renewed too late"],
)
def test_two_live_claims_in_a_group(story):
    assert story.rules() == {ONE_CLAIM}
    assert check(story.history).counts["two live claims in a group"] == 1


@pytest.mark.parametrize(
    "story",
    [
        Groups().post(1, at=1).post(2, at=1.05).claim(2).call(RELEASE, status=204, claim="a").claim(1, claim="b"),
        Groups().post(1, at=1).post(2, at=1.05).claim(2).claim(1, claim="b", at=70),
        Groups().post(1, at=1).post(2, at=1.05).claim(2).call(RENEW, status=404, claim="a", ttl=60, at=70)
        .claim(1, claim="b"),
        Groups().post(1, at=1).post(2, at=1.05).claim(2, at=2).pop(1, at=2.05),
        Groups().post(1, at=1).post(2, at=1.05).claim(2).delete(2).pop(1),
    ],
    ids=["released", "expired", "not renewed", "popped before, perhaps", "deleted"],
)
def test_claim_in_a_group_after_the_end_of_another(story):
    assert ONE_CLAIM not in story.rules()


def test_delayed_message_comes_too_early():
    assert Groups().post(1, delay=5).claim(1).end(1).rules() == {DELAYED}
    assert Groups().post(1, delay=5).claim(1, at=6.5).end(1).rules() == set()


@pytest.mark.parametrize(
    ("story", "found"),
    [
        (Groups().post(1).post(2).list(2).list(1).end(1, 2), True),
        (Groups().post(1, 2).list(2, 1).end(1, 2), True),
        (Groups().post(1).post(2).call(LIST, status=503).list(2).list(1).end(1, 2), True),
        (Groups().post(1).post(2, groups=["h"]).list(2).list(1).end(1, 2), False),
        (Groups().post(1, at=1).post(2, at=1.05).list(2).list(1).end(1, 2), False),
        (Groups().post(1, delay=3).post(2).list(2).end(1, 2), False),
    ],
    ids=["two pages", "one page", "after a failure", "other group", "posted at once", "delayed"],
)
def test_walk_through_groups(story, found):
    assert story.rules() == ({LISTED_IN_ORDER} if found else set())


def test_walk_through_groups_is_in_order_where_others_claim_too():
    story = Groups().post(1).post(2).claim(1).list(2).call(RELEASE, status=204, claim="a").list(1).end(1, 2)
    assert story.rules() == {LISTED_IN_ORDER}


def test_deleted_message_of_a_group_comes_back_after_no_fault():
    story = Groups().post(1).claim(1).delete(1).fault(1, 3).claim(1, claim="b").delete(1, claim="b").end()
    assert story.rules() == {"deleted stays deleted"}


# -- posts that are repeated ------------------------------------------------------------------------------------------

#: Message 1 under another id.
OTHER = Seen("other", "p", 1)


def test_repeated_post_is_one_message():
    story = Story().post(1, 2, key="k", status=503).post(1, 2, key="k", status=409).post(1, 2, key="k")
    report = check(story.post(1, 2, key="k").claim(1, 2).delete(1).end(2).history)
    assert not report.violations
    assert (report.counts["posted"], report.counts["posted again"], report.counts["published twice"]) == (2, 2, 0)


@pytest.mark.parametrize(
    "story",
    [
        Story().post(1, status=503).post(1).call(CLAIM, status=201, claim="a", ttl=60, seen=[OTHER]),
        Story().post(1, key="k").call(POST, "p", status=201, numbers=[1], ids=["other"], key="k", ttl=3600),
        Story().post(1, key="k", status=503).post(1, key="k").end(1).list(1).call(GET, ids=["other"], seen=[OTHER]),
    ],
    ids=["claimed", "answered", "read"],
)
def test_repeated_post_with_two_ids(story):
    assert "a repeated post is published once" in story.end(1).rules()
    assert check(story.history).counts["published twice"] == 1


def test_repeated_post_is_never_answered():
    assert Story().post(1, key="k", status=503).post(1, key="k", status=503).end().rules() == {
        "a repeated post is answered"
    }


def test_post_without_a_key_is_never_still_running():
    assert Story().post(1, status=409).end().rules() == {"only designed answers"}


def test_deleted_message_of_a_key_comes_back_after_no_fault():
    story = Story().post(1, key="k", status=503).fault(1, 3).post(1, key="k").claim(1).delete(1).claim(1, claim="b")
    assert "deleted stays deleted" in story.end(1).rules()


def test_message_of_a_key_is_lost():
    assert Story().post(1, key="k", status=503).post(1, key="k").end().rules() == {"nothing confirmed is lost"}


def test_deliberate_bugs_still_fit_where_they_are_put():
    bugs = "from functional.faults.mutants import MUTANTS\nfor bug in MUTANTS.values(): bug()"
    subprocess.run([sys.executable, "-c", bugs], check=True)
