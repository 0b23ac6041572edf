"""Live feeds (Server-Sent Events): what they show, in which order, and where they go on."""

import uuid

import pytest

from functional.api.helpers import bodies, claim, claims_path, create, listed, messages_path, post, queue_path
from functional.feed_client import FeedClient


@pytest.fixture
def follow(gateway, api, queue):
    """Open a feed of the queue, by another client than the one that posts: `follow("limit=2", Last_Event_ID="1")`."""
    opened = []

    def follow(query="", **headers):
        usual = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": api.project, "Accept": "text/event-stream"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        opened.append(FeedClient(gateway.port, f"{messages_path(queue)}?{query}", usual | given))
        return opened[-1]

    yield follow
    for feed in opened:
        feed.close()


def test_feed_shows_what_is_there_and_what_is_posted_meanwhile(api, queue, follow):
    ids = post(api, queue, 1, {"two": 2})
    feed = follow()
    assert feed.status == 200
    ids += post(api, queue, 3)
    for body in range(4, 10):
        ids += post(api, queue, body)

    events = feed.messages(9)

    assert [event.value["id"] for event in events] == ids
    assert [event.value["body"] for event in events] == [1, {"two": 2}, *range(3, 10)]
    shown = listed(api, queue)
    for event, message in zip(events, shown, strict=True):
        assert event.value | {"age": 0} == message | {"age": 0}


def test_feed_that_is_opened_again_goes_on_where_it_was(api, queue, follow):
    post(api, queue, *range(10))
    post(api, queue, *range(10, 20))
    seen = []
    for limit, count in ((3, 7), (20, 1), (1, 6), (5, 6)):
        feed = follow(f"limit={limit}", **({"Last_Event_ID": seen[-1].id} if seen else {}))
        seen += feed.messages(count)
        feed.close()
    assert [event.value["body"] for event in seen] == list(range(20))
    rest = follow(f"marker={seen[14].id}")
    assert rest.bodies(5) == list(range(15, 20))
    post(api, queue, 20)
    assert rest.bodies(1) == [20]


def test_marker_of_a_list_is_one_of_a_feed(api, queue, follow):
    post(api, queue, 1, 2, 3, 4)
    link = api.get(messages_path(queue), params={"echo": "true", "limit": 2}).json()["links"][0]["href"]
    feed = follow(link.partition("?")[2])
    assert feed.bodies(2) == [3, 4]
    end = api.get(messages_path(queue), params={"echo": "true", "marker": feed_end(follow)})
    assert bodies(end.json()["messages"]) == []


def feed_end(follow):
    """The id of the fourth event."""
    return follow().messages(4)[-1].id


def test_feeds_of_many_clients_show_the_same(api, queue, follow):
    feeds = [follow("echo=true") for _ in range(20)]
    for number in range(10):
        post(api, queue, number)
    assert [feed.bodies(10) for feed in feeds] == [list(range(10))] * 20


def test_own_messages_are_left_out(api, queue, follow):
    feed, echo = follow(Client_ID=api.client_id), follow("echo=yes", Client_ID=api.client_id)
    post(api, queue, 1)
    post(api.other_client(), queue, 2)
    assert feed.bodies(1) == [2]
    assert echo.bodies(2) == [1, 2]


def test_claimed_messages_are_passed_over_unless_they_are_asked_for(api, queue, follow):
    post(api, queue, 1, 2)
    claim_id, taken = claim(api, queue, 1)
    free, every = follow(), follow("include_claimed=true")
    assert bodies(taken) == [1]
    assert free.bodies(1) == [2]
    events = every.messages(2)
    assert [event.value["body"] for event in events] == [1, 2]
    assert events[0].value["href"].endswith(f"?claim_id={claim_id}")
    # What is released is behind the feed by then, as it is behind the marker of a list.
    assert api.delete(f"{claims_path(queue)}/{claim_id}").status_code == 204
    post(api, queue, 3)
    assert free.bodies(1) == [3]
    assert every.bodies(1) == [3]


def test_released_message_that_the_feed_has_not_passed_is_shown(api, queue, follow):
    post(api, queue, 1)
    claim_id, _ = claim(api, queue, 1)
    feed = follow()
    assert feed.is_silent(0.5)
    assert api.delete(f"{claims_path(queue)}/{claim_id}").status_code == 204
    assert feed.bodies(1) == [1]


def test_delayed_message_that_the_feed_has_not_passed_is_shown_in_time(api, queue, follow):
    feed, every = follow(), follow("include_delayed=true")
    post(api, queue, 1, delay=2)
    assert every.bodies(1) == [1]
    assert feed.bodies(1) == [1]


def test_encrypted_messages_are_shown_in_clear(api, queue, follow):
    create(api, queue, _enable_encrypt_messages=True)
    feed = follow()
    post(api, queue, {"secret": 1})
    assert feed.bodies(1) == [{"secret": 1}]


def test_groups_are_shown_in_order(api, queue, follow):
    create(api, queue, _fifo=True)
    feed = follow()
    for number in range(3):
        post(api, queue, number, group="a")
        post(api, queue, number + 10, group="b")
    events = feed.messages(6)
    assert [(event.value["group"], event.value["body"]) for event in events] == [
        ("a", 0), ("b", 10), ("a", 1), ("b", 11), ("a", 2), ("b", 12)
    ]


def test_feed_of_a_deleted_queue_ends_and_its_place_is_forgotten(api, queue, follow):
    post(api, queue, 1)
    feed = follow()
    assert feed.bodies(1) == [1]
    assert api.delete(queue_path(queue)).status_code == 204
    event = feed.next()
    assert event.name == "end" and event.value == {"reason": "deleted"} and event.id == ""
    with pytest.raises(EOFError):
        feed.next()


def test_feed_waits_for_its_queue(api, queue, follow):
    feed = follow()
    assert feed.status == 200
    post(api, queue, 1)
    assert feed.bodies(1) == [1]


def test_purge_does_not_end_a_feed(api, queue, follow):
    post(api, queue, 1)
    feed = follow()
    assert feed.bodies(1) == [1]
    assert api.post(f"{queue_path(queue)}/purge", json={"resource_types": ["messages"]}).status_code == 204
    post(api, queue, 2)
    assert feed.bodies(1) == [2]


def test_line_ends_of_bodies_end_no_data(api, queue, follow):
    feed = follow()
    texts = ["one\ntwo", "\r\n\r\n", "id: 7\n\nevent: end", "\u2028\x85", ":"]
    post(api, queue, *texts)
    assert feed.bodies(len(texts)) == texts


@pytest.mark.parametrize("query, headers, status", [
    ("limit=21", {}, 400), ("limit=x", {}, 400), ("ids=a", {}, 400), ("wait=3", {}, 400), ("marker=none", {}, 400),
    ("", {"Last_Event_ID": "none"}, 400), ("", {"Accept": "application/json, text/event-stream"}, 400),
    ("", {"Accept": "text/html"}, 406), ("", {"Client_ID": "x"}, 400), ("", {"X_Project_ID": ""}, 400),
])
def test_what_is_wrong_is_answered_before_a_feed_begins(api, queue, follow, query, headers, status):
    post(api, queue, 1)
    refused = follow(query, **headers)
    assert refused.status == status
    assert refused.json().keys() == {"title", "description"}


def test_shared_url_opens_a_feed_without_headers(gateway, api, queue):
    post(api, queue, 1)
    shared = api.post(f"{queue_path(queue)}/share", json={"url": True}).json()
    feed = FeedClient(gateway.port, f"{shared['url']}&client_id={uuid.uuid4()}", {"Accept": "text/event-stream"})
    assert feed.bodies(1) == [1]
    changed = shared["url"].replace("project_id=", "project_id=x")
    refused = FeedClient(gateway.port, f"{changed}&client_id={uuid.uuid4()}", {"Accept": "text/event-stream"})
    assert refused.status == 404
    assert shared["signature"] not in gateway.log
