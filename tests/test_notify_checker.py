"""The checker of the fault run of notifications: it must see every broken promise, and none where all were kept."""

import base64
import hmac
import json

import pytest

from functional.faults.history import POST, Call, Fault
from functional.notify.faults.checker import (
    BOUNDED,
    DESIGNED,
    EXPIRED,
    HEEDED,
    ONE_ID,
    POSTED,
    SIGNED,
    TOLD,
    check,
)
from functional.notify.faults.history import (
    PAUSE,
    REMOVE,
    RESUME,
    UNSUBSCRIBE,
    Attempt,
    Change,
    NotifyHistory,
    Subscribed,
)
from functional.notify.faults.stories import body_of, undelivered

KEY = b"k" * 32
TIMEOUT = 4.0


class Story:
    """A history in the making: subscription `s` to queue `q` was there at 1.0, and dead letters are listed at 500."""

    def __init__(self, most=2):
        self.history = NotifyHistory(TIMEOUT)
        self.history.looked = 500.0
        secret = f"whsec_{base64.b64encode(KEY).decode()}"
        self.subscription = Subscribed("s", "q", "fast", most, "id-s", secret, 1.0)
        self.history.subscriptions["s"] = self.subscription

    def post(self, *numbers, at=2.0, status=201, ttl=3600):
        ids = [f"id-{number}" for number in numbers] if status == 201 else []
        call = Call(POST, "p", "g", "q", at, at + 0.1, status, numbers=list(numbers), ids=ids, ttl=ttl)
        self.history.add(call)
        return self

    def told(self, number, at=3.0, *, lasts=0.1, status=204, stamped=None, id_=None, body=None, key=KEY):
        id_ = id_ or f"id-{number}"
        text = json.dumps({"body": body or body_of("p", number)})
        digest = hmac.digest(key, f"{id_}.77.{text}".encode(), "sha256")
        signature = f"v1,{base64.b64encode(digest).decode()}"
        stamped = at - 0.5 if stamped is None else stamped
        self.history.attempts.append(
            Attempt("s", at, stamped, id_, "77", signature, 1, text, at + lasts if lasts else None, status)
        )
        return self

    def change(self, kind, at, status=204, lasts=1.0):
        self.subscription.changes.append(Change(kind, at, at + lasts, status))
        return self

    def fault(self, kind, begun, mended):
        self.history.faults.append(Fault(kind, "notifier-1", begun, mended, mended))
        return self

    def report(self):
        return check(self.history)

    def rules(self):
        return [violation.rule for violation in self.report().violations]


def test_ordinary_life_breaks_no_rule():
    report = Story().post(1, 2).told(1).told(2, 3.05).post(3).told(3, 4.0, status=500).told(3, 5.0).report()
    assert report.good
    assert (report.counts["delivered"], report.counts["lost"], report.counts["refused or failed"]) == (3, 0, 1)
    assert not report.duplicates


def test_a_message_that_nobody_was_told_of_is_lost():
    report = Story().post(1, 2).told(1).report()
    assert [violation.rule for violation in report.violations] == [TOLD]
    assert report.counts["lost"] == 1
    assert "id-2" in "\n".join(report.lines())


@pytest.mark.parametrize("status", [500, None])
def test_an_attempt_that_failed_is_no_delivery(status):
    assert Story().post(1).told(1, status=status).rules() == [TOLD]


def test_a_dead_letter_is_not_lost():
    story = Story().post(1).told(1, status=500)
    story.subscription.dead = ["id-1"]
    assert story.report().good
    assert story.report().counts["dead letters"] == 1


def test_what_has_expired_is_not_lost():
    report = Story().post(1, ttl=60).report()
    assert report.good and report.counts["expired"] == 1


def test_what_expires_later_is_lost():
    assert Story().post(1, ttl=600).rules() == [TOLD]


@pytest.mark.parametrize("story", [
    Story().post(1, at=0.5),  # before the answer to the subscription
    Story().post(1, status=503),
    Story().post(1, status=None),
    Story().post(1).change(REMOVE, 4.0),
    Story().post(1).change(UNSUBSCRIBE, 4.0),
    Story().post(1).change(REMOVE, 4.0, status=None),
])
def test_who_need_not_be_told(story):
    assert story.report().good


def test_a_paused_subscription_is_told_in_the_end():
    assert Story().post(1).change(PAUSE, 2.5).change(RESUME, 60.0).rules() == [TOLD]


def test_a_queue_of_others_is_none_of_its_business():
    story = Story()
    story.history.add(Call(POST, "p", "g", "other", 2.0, 2.1, 201, numbers=[1], ids=["id-1"], ttl=3600))
    assert story.report().good


@pytest.mark.parametrize("body", [
    {"producer": "p", "number": 2, "text": ""}, {"producer": "p", "number": 1, "text": "spoiled"}, [1],
])
def test_what_was_not_posted_is_seen(body):
    assert POSTED in Story().post(1).told(1).told(1, body=body).rules()


def test_each_message_has_one_id():
    assert Story().post(1).told(1, status=500).told(1, 5.0, id_="another").rules() == [ONE_ID]
    assert Story().post(1, status=None).told(1, status=500, id_="a").told(1, 5.0, id_="b").rules() == [ONE_ID]


def test_a_wrong_signature_is_seen():
    assert Story().post(1).told(1, key=b"x" * 32).rules() == [SIGNED]


def test_what_has_expired_must_not_be_told():
    assert Story().post(1, ttl=60).told(1, 70.0).rules() == [EXPIRED]
    assert Story().post(1, ttl=60).told(1, 64.0, stamped=61.0).report().good  # it had begun


@pytest.mark.parametrize("kind", [PAUSE, REMOVE, UNSUBSCRIBE])
class TestWhatEndsDeliveries:
    def test_nothing_begins_after_the_answer(self, kind):
        assert HEEDED in Story().post(1).told(1).change(kind, 4.0).told(1, 7.0, stamped=6.0).rules()

    def test_what_had_begun_may_end(self, kind):
        assert HEEDED not in Story().post(1).told(1).change(kind, 4.0).told(1, 8.0, stamped=4.0).rules()

    def test_what_comes_much_later_had_not_begun(self, kind):
        assert HEEDED in Story().post(1).told(1).change(kind, 4.0).told(1, 30.0, stamped=4.0).rules()

    def test_a_notifier_that_was_paused_may_have_sent_it_late(self, kind):
        story = Story().post(1).told(1).change(kind, 4.0).fault("notifier paused", 4.5, 29.0)
        assert HEEDED not in story.told(1, 30.0, stamped=4.0).rules()
        assert HEEDED in story.told(1, 31.0, stamped=28.0).rules()

    def test_without_an_answer_nothing_is_promised(self, kind):
        assert HEEDED not in Story().post(1).told(1).change(kind, 4.0, status=None).told(1, 30.0).rules()


def test_after_a_pause_deliveries_begin_again():
    story = Story().post(1).change(PAUSE, 4.0).change(RESUME, 20.0)
    assert story.told(1, 21.0).report().good


def test_who_asked_to_go_on_and_got_no_answer_may_be_heard_after_the_next_pause():
    story = Story().post(1).change(PAUSE, 4.0).change(RESUME, 8.0, status=None).change(PAUSE, 12.0)
    assert story.change(RESUME, 40.0).told(1, 20.0).report().good


def test_more_attempts_at_once_than_allowed_are_seen():
    story = Story(most=2).post(1, 2, 3)
    assert story.told(1, 3.0, lasts=2).told(2, 3.5, lasts=2).report().counts["lost"] == 1
    assert story.told(3, 4.0, lasts=2).rules() == [BOUNDED]


def test_attempts_one_after_the_other_are_allowed():
    assert Story(most=1).post(1, 2).told(1, 3.0, lasts=1).told(2, 4.0, lasts=1).report().good


def test_an_attempt_counts_no_longer_than_its_deadline():
    story = Story(most=1).post(1).told(1, 3.0, lasts=None, status=None)
    assert story.told(1, 3.0 + TIMEOUT + 0.1).report().good
    assert BOUNDED in Story(most=1).post(1).told(1, lasts=None, status=None).told(1, 3.0 + TIMEOUT - 0.1).rules()


def test_what_a_paused_notifier_had_begun_does_not_count_when_it_comes_too_late():
    def story():
        return Story(most=1).post(1, 2).told(2, 29.8, lasts=1).told(1, 30.0, stamped=4.0)

    assert story().fault("notifier paused", 4.5, 29.9).report().good
    assert story().fault("broker paused", 4.5, 29.9).rules() == [BOUNDED]


def test_duplicates_are_counted_by_their_cause():
    story = Story().post(1, 2).fault("notifier killed", 3.05, 6.0).fault("gateway paused", 7.0, 8.0)
    report = story.told(1, 3.0).told(1, 9.0).told(2, 100.0).told(2, 101.0).report()
    assert report.good
    assert report.duplicates == {"notifier killed": 1, "without a fault": 1}


def test_a_fault_during_an_earlier_attempt_may_be_the_cause():
    story = Story().post(1).told(1, 3.0, status=None).fault("notifier paused", 4.0, 30.0).told(1, 90.0).told(1, 91.0)
    assert story.report().duplicates == {"notifier paused": 1}


def test_a_post_that_took_long_may_be_told_twice():
    story = Story()
    story.history.add(Call(POST, "p", "g", "q", 2.0, 4.5, 201, numbers=[1], ids=["id-1"], ttl=3600))
    assert story.told(1, 5.0).told(1, 6.0).report().duplicates == {"posted slowly": 1}


def test_answers_that_the_api_does_not_have_are_seen():
    assert Story().post(1, status=500).rules() == [DESIGNED]
    assert Story().change(PAUSE, 4.0, status=500).rules() == [DESIGNED]


def test_what_is_left_to_do():
    story = Story().post(1, 2)
    assert len(undelivered(story.history)) == 2
    story.told(1)
    assert [duty.message.id for duty in undelivered(story.history)] == ["id-2"]
    story.subscription.dead = ["id-2"]
    assert not undelivered(story.history)
