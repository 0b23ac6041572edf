"""The operations of subscriptions. Names of rules and relations are those of OpenStack Zaqar, where it has them."""

from __future__ import annotations

from functools import partial

from gateway.access.policy import MEMBER, READER
from gateway.api.v2 import deliveries, parse_subscriptions, render, render_subscriptions, schemas, subscriptions
from gateway.web.operations import BOOLEAN, INTEGER, LIST, Operation, Parameter

SUBSCRIPTIONS, DELIVERIES, SECRETS = "Subscriptions", "Deliveries", "Secrets"

_ALL = "/v2/queues/{queue_name}/subscriptions"
_ONE = f"{_ALL}/{{subscription_id}}"

_reads = partial(Operation, default_rule=READER)
_writes = partial(Operation, default_rule=MEMBER)
_looks = partial(_reads, name="subscription:get", method="GET")
_manages = partial(_writes, name="subscription:update", render=render.nothing)

#: In the order of the home document and of docs/api.md.
OPERATIONS: tuple[Operation, ...] = (
    _reads(
        name="subscription:get_all", method="GET", path=_ALL, relation="rel/subscriptions_get",
        more_relations=("rel/subscriptions",),
        id="list_subscriptions", tag=SUBSCRIPTIONS, replies=schemas.subscriptions.LISTED,
        page="max_subscriptions_per_page",
        summary="List subscriptions.",
        description="a page of a queue's subscriptions, oldest first: `limit`, `marker`, `detailed`",
        parameters=(Parameter("marker"), Parameter("limit", INTEGER), Parameter("detailed", BOOLEAN)),
        parse=parse_subscriptions.page, handler=subscriptions.list_, render=render_subscriptions.subscriptions,
    ),
    _writes(
        name="subscription:create", method="POST", path=_ALL, relation="rel/subscriptions_post",
        more_relations=("rel/subscriptions",),
        id="create_subscription", tag=SUBSCRIPTIONS, body=schemas.subscriptions.NEW,
        replies=schemas.subscriptions.SUBSCRIBED, errors=schemas.subscriptions.TAKEN,
        summary="Create a subscription.",
        description="201: everything that is posted from now on is sent to `subscriber`, for `ttl` seconds; `options`"
                    " say how. The same subscriber again: 201 with the same id, or 409 once it has confirmed",
        parse=parse_subscriptions.subscription, handler=subscriptions.post, render=render_subscriptions.subscribed,
    ),
    _reads(
        name="subscription:get", method="GET", path=_ONE, relation="rel/subscription",
        id="get_subscription", tag=SUBSCRIPTIONS, replies=schemas.subscriptions.GOT,
        summary="Read a subscription, how its deliveries go and what could not be delivered.",
        description="one subscription: `detailed`",
        parameters=(Parameter("detailed", BOOLEAN),),
        parse=parse_subscriptions.detailed, handler=subscriptions.get, render=render_subscriptions.subscription,
    ),
    _writes(
        name="subscription:delete", method="DELETE", path=_ONE, relation="rel/subscription",
        id="delete_subscription", tag=SUBSCRIPTIONS, replies=schemas.common.DONE,
        summary="Delete a subscription.",
        description="204: no delivery begins any more, and what waits is dropped",
        handler=subscriptions.delete, render=render.nothing,
    ),
    _writes(
        name="subscription:update", method="PATCH", path=_ONE, relation="rel/subscription_patch",
        id="update_subscription", tag=SUBSCRIPTIONS, body=schemas.subscriptions.CHANGES,
        replies=schemas.common.DONE_AT,
        summary="Change a subscription, pause it, repeat its deliveries, or see and change its secret.",
        description="204: changes some of `subscriber`, `ttl` and `options`; `ttl` begins again",
        parse=parse_subscriptions.changes, handler=subscriptions.patch, render=render_subscriptions.changed,
    ),
    _writes(
        name="subscription:confirm", method="PUT", path=f"{_ONE}/confirm", relation="rel/subscription_confirm",
        id="confirm_subscription", tag=SUBSCRIPTIONS, body=schemas.subscriptions.CONFIRMATION,
        replies=schemas.common.DONE_AT,
        summary="Confirm a subscription, or end it.",
        description='204: `{"confirmed": true}` begins deliveries, `{"confirmed": false}` ends them',
        parse=parse_subscriptions.confirmed, handler=subscriptions.confirm, render=render_subscriptions.confirmed,
    ),
    _looks(
        path=f"{_ONE}/status", relation="rel/subscription_status",
        id="get_subscription_status", tag=DELIVERIES, replies=schemas.subscriptions.PROGRESS,
        summary="See how the deliveries of a subscription go.",
        description="its state, how many messages wait, were delivered, failed or died, and when they are tried again",
        handler=deliveries.status, render=render_subscriptions.status,
    ),
    _manages(
        method="PUT", path=f"{_ONE}/state", relation="rel/subscription_state",
        id="set_subscription_state", tag=DELIVERIES, body=schemas.subscriptions.STATE, replies=schemas.common.DONE,
        summary="Pause a subscription, or let it go on.",
        description='204: `{"state": "paused"}` keeps what is posted; `{"state": "active"}` delivers it, and ends'
                    " `disabled`",
        parse=parse_subscriptions.state, handler=subscriptions.put_state,
    ),
    _looks(
        path=f"{_ONE}/deliveries", relation="rel/subscription_deliveries",
        id="list_deliveries", tag=DELIVERIES, replies=schemas.subscriptions.ATTEMPTS, page="max_messages_per_page",
        summary="See the last attempts of a subscription.",
        description="the last attempts, newest first: `limit`, `marker`, `status`",
        parameters=(Parameter("marker"), Parameter("limit", INTEGER), Parameter("status", INTEGER)),
        parse=parse_subscriptions.deliveries, handler=deliveries.attempts, render=render_subscriptions.attempts,
    ),
    _looks(
        path=f"{_ONE}/dead_letters", relation="rel/subscription_dead_letters",
        id="list_dead_letters", tag=DELIVERIES, replies=schemas.subscriptions.DEAD_LETTERS,
        page="max_messages_per_page",
        summary="See what could not be delivered to a subscriber.",
        description="what could not be delivered, oldest first: `limit`, `marker`",
        parameters=(Parameter("marker"), Parameter("limit", INTEGER)),
        parse=parse_subscriptions.letters, handler=deliveries.dead_letters, render=render_subscriptions.dead_letters,
    ),
    _manages(
        method="DELETE", path=f"{_ONE}/dead_letters", relation="rel/subscription_dead_letters_delete",
        id="delete_dead_letters", tag=DELIVERIES, replies=schemas.common.DONE,
        summary="Delete what could not be delivered to a subscriber.",
        description="204: deletes the dead letters of `ids`, or all",
        parameters=(Parameter("ids", LIST),),
        parse=parse_subscriptions.letter_ids, handler=deliveries.delete_dead_letters,
    ),
    _manages(
        method="POST", path=f"{_ONE}/replay", relation="rel/subscription_replay",
        id="replay_deliveries", tag=DELIVERIES, body=schemas.subscriptions.REPLAY,
        replies=schemas.subscriptions.REPLAYED,
        summary="Deliver messages once more.",
        description="202: delivers once more what died, or with `only` = `delivered` what the queue still has: those of"
                    " `ids`, posted from `since` and before `until`, or `all`; 1000 at a time",
        parse=parse_subscriptions.replay, handler=deliveries.replay, render=render_subscriptions.replayed,
    ),
    _manages(
        method="POST", path=f"{_ONE}/test", relation="rel/subscription_test",
        id="test_subscription", tag=DELIVERIES, body=schemas.subscriptions.TEST, replies=schemas.subscriptions.TESTED,
        errors=schemas.subscriptions.TOO_MANY_TESTS,
        summary="Try a subscriber with one message.",
        description="200: sends one message of the type `Test` now, and says what came of it; 6 times a minute",
        parse=parse_subscriptions.test, handler=deliveries.test, render=render_subscriptions.tested,
    ),
    _manages(
        method="GET", path=f"{_ONE}/secret", relation="rel/subscription_secret", shareable=False,
        id="get_subscription_secret", tag=SECRETS, replies=schemas.subscriptions.GOT_SECRET,
        summary="See the secret that deliveries are signed with.",
        description="the secret that deliveries are signed with",
        handler=subscriptions.get_secret, render=render_subscriptions.secret,
    ),
    _manages(
        method="PUT", path=f"{_ONE}/secret", relation="rel/subscription_secret", shareable=False,
        id="set_subscription_secret", tag=SECRETS, body=schemas.subscriptions.SECRET, replies=schemas.common.DONE,
        summary="Set the secret that deliveries are signed with.",
        description='204: signs with `{"secret": "whsec_…"}` alone from now on',
        parse=parse_subscriptions.secret, handler=subscriptions.put_secret,
    ),
    _manages(
        method="POST", path=f"{_ONE}/secret/rotate", relation="rel/subscription_secret_rotate",
        shareable=False,
        id="rotate_subscription_secret", tag=SECRETS, body=schemas.subscriptions.ROTATION,
        replies=schemas.subscriptions.GOT_SECRET,
        summary="Sign with a new secret.",
        description="200: a new secret; the last one signs too for `keep` more seconds, a day if you don't say",
        parse=parse_subscriptions.rotation, handler=subscriptions.rotate_secret, render=render_subscriptions.secret,
    ),
)
