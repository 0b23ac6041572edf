"""What a consumer of Redis knows of its queues, without Redis."""

import select

import pytest

from bridges.redis.feeds import Ends, Feed, Feeds
from bridges.redis.wake import Wake


@pytest.fixture
def feeds() -> Feeds:
    """With one queue, of which two messages may be unsettled."""
    feeds = Feeds()
    feeds.add("queue", "key", 2)
    return feeds


def feed_of(feeds: Feeds) -> Feed:
    (feed,) = feeds.take_due(but=())
    return feed


def test_new_feed_is_due_once_with_all_its_room(feeds: Feeds) -> None:
    assert feeds.is_due()
    assert list(feeds.take_due(but=()).values()) == [2]
    assert not feeds.is_due()
    assert list(feeds.waiting()) == [b"key"]


def test_full_feed_is_due_again_when_it_has_room(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    tag = feeds.hold(feed, b"1-1")
    feeds.hold(feed, b"1-2")
    feeds.due([feed])
    assert not feeds.is_due()
    assert feeds.take_due(but=()) == {}
    assert feeds.waiting() == {}
    assert tag is not None and feeds.settle(tag)
    assert feeds.take_due(but=()) == {feed: 1}


def test_what_is_waited_for_is_left_out_and_stays_due(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    feeds.due([feed])
    assert feeds.take_due(but=[feed]) == {}
    assert feeds.is_due([feed])


def test_delivery_ends_once(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    tag = feeds.hold(feed, b"1-1")
    assert tag is not None
    assert feeds.settle(tag)
    assert not feeds.settle(tag)
    assert not feeds.requeue(tag)
    ends = feeds.ends()
    assert ends == Ends({"key": [b"1-1"]}, {}, set())
    feeds.told(ends)
    assert feeds.ends() is None


def test_message_that_comes_again_is_another_delivery(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    first = feeds.hold(feed, b"1-1")
    assert first is not None and feeds.requeue(first)
    second = feeds.hold(feed, b"1-1")
    assert not feeds.settle(first)
    assert second is not None and feeds.settle(second)


def test_feed_to_which_something_went_back_is_due_when_redis_knows(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    tag = feeds.hold(feed, b"1-1")
    assert tag is not None and feeds.requeue(tag)
    assert not feeds.is_due()
    ends = feeds.ends()
    assert ends == Ends({}, {"key": [b"1-1"]}, set())
    feeds.told(ends)
    assert feeds.is_due([feed])


def test_what_ends_while_redis_is_told_is_told_the_next_time(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    tags = [feeds.hold(feed, b"1-%d" % number) for number in range(4)]
    assert all(tags)
    feeds.settle(tags[0])  # type: ignore[arg-type]
    feeds.requeue(tags[1])  # type: ignore[arg-type]
    ends = feeds.ends()
    feeds.settle(tags[2])  # type: ignore[arg-type]
    feeds.requeue(tags[3])  # type: ignore[arg-type]
    assert ends is not None
    feeds.told(ends)
    assert feeds.ends() == Ends({"key": [b"1-2"]}, {"key": [b"1-3"]}, set())


def test_removed_feed_gets_all_back_before_it_is_handed_out_again(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    tag = feeds.hold(feed, b"1-1")
    assert feeds.remove("key")
    assert not feeds.remove("key")
    assert feeds.hold(feed, b"1-2") is None
    assert tag is not None and not feeds.settle(tag)
    feeds.add("queue", "key", 1)
    assert feeds.take_due(but=()) == {}
    ends = feeds.ends()
    assert ends == Ends({}, {}, {"key"})
    feeds.told(ends)
    assert list(feeds.take_due(but=()).values()) == [1]


def test_new_connection_holds_nothing_and_tells_what_was_settled(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    settled, requeued, held = (feeds.hold(feed, b"1-%d" % number) for number in range(3))
    assert settled is not None and feeds.settle(settled)
    assert requeued is not None and feeds.requeue(requeued)
    feeds.begin()
    assert held is not None and not feeds.settle(held)
    assert feeds.ends() == Ends({"key": [b"1-0"]}, {}, set())
    assert feeds.take_due(but=()) == {feed: 2}


def test_missing_feed_is_looked_at_and_not_waited_for(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    feed.missing = True
    assert feeds.waiting() == {}
    feeds.all_due()
    assert feeds.take_due(but=()) == {feed: 2}


def test_bound_that_is_changed_counts_from_now_on(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    for number in range(2):
        feeds.hold(feed, b"1-%d" % number)
    feeds.add("queue", "key", 3)
    assert feeds.take_due(but=()) == {feed: 1}
    feeds.add("queue", "key", 1)
    assert feeds.take_due(but=()) == {}
    assert feeds.holding() == ["key"]


def test_closed_feeds_hold_nothing_more(feeds: Feeds) -> None:
    feed = feed_of(feeds)
    feeds.close()
    assert feeds.hold(feed, b"1-1") is None


def test_wake_is_readable_from_set_to_clear() -> None:
    wake = Wake()

    def is_readable() -> bool:
        return bool(select.select([wake], [], [], 0)[0])

    assert not is_readable()
    for _ in range(2):
        wake.set()
        wake.set()
        assert is_readable()
        wake.clear()
        assert not is_readable()
    wake.close()
    wake.set()
    wake.clear()
    wake.close()
