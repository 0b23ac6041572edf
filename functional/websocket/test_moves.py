"""A queue moves to another pool and back, and what is posted meanwhile comes over the connection."""

import contextlib
import threading
import uuid

from websockets.exceptions import ConnectionClosed

from functional.deployments import COMMON, beside, through
from functional.http import Api
from functional.notify.test_moves import ADMIN, HASTY, MOVED, phase
from functional.services.gateway import merge
from functional.wait import wait_until


def test_nothing_is_missed_while_the_queue_moves(start_gateway, rabbitmq, mongodb, connect, queue):
    name = f"marconi_moves_{uuid.uuid4().hex[:8]}"
    options = merge(COMMON, through(rabbitmq), beside(mongodb, name), HASTY)
    first, second = start_gateway(**options), start_gateway(**options)
    client = connect(first)
    api = Api(second.url, client.project)
    pool = {"weight": 1, "uri": mongodb.database_uri(f"{name}_archive"), "flavor": "archive"}
    assert api.put("/v2/pools/archive", json=pool, headers=ADMIN).status_code == 201
    assert api.put("/v2/flavors/archive", json={"pool_list": ["archive"]}, headers=ADMIN).status_code == 201
    client.subscribe(queue)
    posted, seen, stop = [], [], threading.Event()

    def read():
        with contextlib.suppress(ConnectionClosed):
            while True:
                seen.append(client.receive(MOVED)["body"])

    def post():
        while not stop.wait(0.1):
            answer = api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": len(posted), "ttl": 600}]})
            if answer.status_code == 201:
                posted.append(len(posted))

    threading.Thread(target=read, daemon=True).start()
    poster = threading.Thread(target=post, daemon=True)
    poster.start()
    for target in ("archive", "default"):
        answer = api.post(f"/v2/queues/{queue}/migrate", json={"pool": target}, headers=ADMIN)
        assert answer.status_code == 202, answer.text
        wait_until(lambda: phase(api, queue) is None, MOVED, f"the move to {target}")
    stop.set()
    poster.join(MOVED)
    wait_until(lambda: set(seen) >= set(posted), MOVED, "all messages")
    assert len(posted) > 20
    api.post(f"/v2/queues/{queue}/messages", json={"messages": [{"body": "last", "ttl": 600}]})
    wait_until(lambda: "last" in seen, MOVED, "one more")
