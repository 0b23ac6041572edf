"""The handshake of CloudEvents, over REST and with a real receiver."""

from collections.abc import Callable

from functional.http import Api
from functional.notify.receivers import Handler, Request, receiving
from functional.notify.subscribers import Subscriber
from functional.services.gateway import Gateway
from functional.wait import wait_until

ORIGIN = "messaging.example.org"


def test_a_receiver_agrees_and_gets_what_is_posted_after_that(start: Callable[..., Gateway]):
    consents = False
    seen: list[tuple[str, str | None]] = []

    def habit(handler: Handler, request: Request) -> None:
        seen.append((handler.command, request.headers.get("webhook-request-origin")))
        if handler.command == "OPTIONS" and consents:
            handler.answer(200, {"WebHook-Allowed-Origin": ORIGIN, "WebHook-Allowed-Rate": "*"})
        else:
            handler.answer(405 if handler.command == "OPTIONS" else 204)

    with receiving(habit) as receiver:
        subscriber = Subscriber(Api(start(notification={"origin": ORIGIN}).url))
        id_ = subscriber.subscribe(receiver.url, _confirmation="cloudevents", _format="cloudevents-binary")
        wait_until(lambda: seen, 20, "a handshake")
        assert subscriber.of(id_, "status")["state"] == "unconfirmed"
        subscriber.post("before")
        consents = True
        wait_until(lambda: subscriber.of(id_, "status")["state"] == "active", 20, "consent")
        subscriber.post("after")
        wait_until(lambda: seen[-1] == ("POST", ORIGIN), 20, "a delivery")
        assert {method for method, _ in seen[:-1]} == {"OPTIONS"}
        assert receiver.requests[-1].body == b'"after"'
        subscriber.api.close()
