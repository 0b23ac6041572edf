"""Actions on subscriptions."""

from __future__ import annotations

from gateway.api.v2 import subscriptions
from gateway.api.v2.render_subscriptions import shown
from gateway.stream.websocket.actions.action import Action, Answer, Asked, like
from gateway.stream.websocket.actions.fields import QUEUE, integer, mapping, string
from gateway.web import query

TAKEN = "Such a subscription exists already, and is confirmed: a queue has one for each subscriber."


def create(asked: Asked) -> Answer:
    """Subscribe somebody to a queue; without a subscriber, the connection itself."""
    queue, ttl, options = asked.queue, asked.get("ttl"), asked.get("options")
    subscriber = asked.get("subscriber")
    if subscriber is not None:
        made = subscriptions.post(asked, queue, subscriber=subscriber, ttl=ttl, options=options)
        if made.is_taken:
            return 409, TAKEN
        return _created(queue, made.id)
    found = asked.core.connections.subscribe(asked.project, queue, asked.session.subscriber, ttl, options)
    if found is None:
        return 409, TAKEN
    asked.session.subscriptions[found.name] = found
    asked.session.is_binary = asked.is_binary
    return _created(queue, found.id)


def _created(queue: str, id_: str) -> Answer:
    return 201, {"subscription_id": id_, "message": f"Subscription {queue} created."}


def list_(asked: Asked) -> Answer:
    """A page of a queue's subscriptions."""
    limit = query.check_limit(asked.get("limit"), asked.core.limits.max_subscriptions_per_page)
    page = subscriptions.list_(asked, asked.queue, limit=limit, marker=asked.get("marker"), detailed=False)
    now = asked.now()
    return 200, {"subscriptions": [shown(each.subscription, now) for each in page]}


def get(asked: Asked) -> Answer:
    """One subscription."""
    found = subscriptions.get(asked, asked.queue, asked.body["subscription_id"], detailed=False)
    return 200, shown(found.subscription, asked.now())


def delete(asked: Asked) -> Answer:
    """Delete a subscription."""
    id_ = asked.body["subscription_id"]
    subscriptions.delete(asked, asked.queue, id_)
    return 204, f"Subscription {id_} removed."


_SUBSCRIPTION = string("subscription_id", required=True)

ACTIONS = (
    Action(
        "subscription_create", like(subscriptions.post),
        "subscribes `subscriber`, or without one this connection; 409 if there is such a subscription",
        (QUEUE, string("subscriber"), integer("ttl"), mapping("options")), create,
    ),
    Action(
        "subscription_list", like(subscriptions.list_), "a page of subscriptions, oldest first; go on after the"
        " last id", (QUEUE, integer("limit"), string("marker")), list_,
    ),
    Action("subscription_get", like(subscriptions.get), "one subscription", (QUEUE, _SUBSCRIPTION), get),
    Action(
        "subscription_delete", like(subscriptions.delete), "deletes a subscription, also one of a connection",
        (QUEUE, _SUBSCRIPTION), delete,
    ),
)
