"""A feed goes on while its queue moves to another pool."""

import uuid

from functional.api.helpers import messages_path, post, queue_path
from functional.feed_client import FeedClient
from functional.http import Api
from functional.wait import wait_until

#: Seconds for a move on a busy machine.
MOVE = 90.0

ADMIN = {"X-Roles": "admin"}


def test_feed_shows_each_message_once_while_its_queue_moves(start_gateway, queue, tmp_path):
    gateway = start_gateway()
    api = Api(gateway.url)
    pool = {"uri": f"sqlite:///{tmp_path}/other.db", "weight": 0}
    assert api.put("/v2/pools/other", json=pool, headers=ADMIN).status_code == 201
    post(api, queue, *range(20))
    headers = {"Client-ID": str(uuid.uuid4()), "X-Project-ID": api.project, "Accept": "text/event-stream"}
    feed = FeedClient(gateway.port, messages_path(queue), headers, timeout=MOVE)
    assert feed.bodies(20) == [*range(20)]

    assert api.post(f"{queue_path(queue)}/migrate", json={"pool": "other"}, headers=ADMIN).status_code == 202
    posted = 20

    def has_moved():
        nonlocal posted
        post(api, queue, posted)
        posted += 1
        state = api.get(f"{queue_path(queue)}/migration", headers=ADMIN).json()
        return state["pool"] == "other" and not state["migration"]

    wait_until(has_moved, MOVE, "the move")
    post(api, queue, posted)
    assert feed.bodies(posted - 19) == [*range(20, posted + 1)]
    assert feed.is_silent(1.0)
