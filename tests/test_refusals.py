"""What a broker's refusals become, by the texts of RabbitMQ 3.10 to 4.3, Amazon MQ and Qpid Broker-J."""

import time

import pytest
from amqp.exceptions import ConnectionError as AMQPConnectionError
from amqp.exceptions import error_for_code
from kombu.exceptions import OperationalError

from bridges.amqp.dialects import DIALECTS, UNKNOWN
from bridges.amqp.dialects.base import Dialect
from bridges.amqp.refusals import refusal
from bridges.amqp.sizes import KNOWN_FOR, Sizes
from bridges.errors import BrokerRefused, LimitReached, MessageTooLarge, ObjectLocked
from gateway.web.errors import REFUSED_RETRY_AFTER, RETRY_AFTER, answer


def said(code: int, text: str) -> Exception:
    """As py-amqp raises it."""
    return error_for_code(code, text, (10, 50), AMQPConnectionError)


#: Reply code, text, class, and a piece of the advice; None where there is none.
REFUSALS: list[tuple[int, str, type[Exception], str | None]] = [
    (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker"
     " logfile.", BrokerRefused, "correct user and password"),
    (403, "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details see the broker"
     " logfile.", BrokerRefused, "name in the gateway's certificate"),
    (403, "ACCESS_REFUSED - PLAIN login refused: user 'guest' can only connect via localhost", BrokerRefused,
     "make a user for the gateway"),
    (403, "ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'", BrokerRefused, "set_permissions"),
    (403, "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'u'", BrokerRefused,
     "set_permissions"),
    (403, "ACCESS_REFUSED - access to topic 'a' in exchange 'e' in vhost '/' refused for user 'u'", BrokerRefused,
     "set_topic_permissions"),
    (403, "ACCESS_REFUSED - write access to topic 'a' in exchange 'e' in vhost '/' refused for user 'u'", BrokerRefused,
     "set_topic_permissions"),
    (403, "ACCESS_REFUSED - cannot publish to internal exchange 'e' in vhost '/'", BrokerRefused, "another exchange"),
    (403, "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'", BrokerRefused, "something else"),
    (403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use", ObjectLocked, "not exclusive"),
    (403, "ACCESS_REFUSED - something new", BrokerRefused, None),
    (530, "NOT_ALLOWED - vhost nowhere not found", BrokerRefused, "add_vhost"),
    (530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u'", BrokerRefused, "let the user into"),
    (530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit (3) is reached", LimitReached,
     "set_vhost_limits"),
    (530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit cannot be queried, timeout",
     LimitReached, "limit"),
    (530, "NOT_ALLOWED - connection refused for user 'u': user connection limit (3) is reached", LimitReached,
     "set_user_limits"),
    (530, "NOT_ALLOWED - connection refused: node connection limit (3) is reached", LimitReached, "connection_max"),
    (530, "NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum allowed user limit of (3)",
     LimitReached, "channels"),
    (530, "NOT_ALLOWED - number of channels opened on node 'n' has reached the maximum allowed limit of (15,000)",
     LimitReached, "channels"),
    (530, "NOT_ALLOWED - reached maximum (1,000) of consumers per channel", LimitReached, "limit"),
    (406, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in vhost '/' (2) is reached", LimitReached,
     "delete queues"),
    (406, "PRECONDITION_FAILED - cannot declare queue 'q': queue limit in cluster (2) is reached", LimitReached,
     "delete queues"),
    (406, "PRECONDITION_FAILED - cannot declare exchange 'e' in vhost '/': exchange limit of 10 is reached",
     LimitReached, "limit"),
    (405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally"
     " declared on another connection or the exclusive property value does not match that of the original declaration.",
     ObjectLocked, "not exclusive"),
    (405, "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not"
     " supported by quorum queues with single active consumer", ObjectLocked, "configure the queue"),
    (406, "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but"
     " current is 'classic'", BrokerRefused, None),
    (406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is"
     " 'false'", BrokerRefused, "made otherwise"),
    (406, "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'q' in vhost '/': \"unsupported queue type\"",
     BrokerRefused, "queue_type"),
    (406, "PRECONDITION_FAILED - Cannot declare a queue 'q' of type 'rabbit_quorum_queue' on node 'n': the"
     " corresponding feature flag is disabled", BrokerRefused, "queue_type"),
    (406, "PRECONDITION_FAILED - something new", BrokerRefused, None),
    (406, "PRECONDITION_FAILED - message size 9 is larger than configured max size 8", MessageTooLarge, None),
    (406, "PRECONDITION_FAILED - message size 9 is larger than max size 8", MessageTooLarge, None),
    (311, "Message size of 9 bytes exceeds maximum", MessageTooLarge, None),
    (540, "NOT_IMPLEMENTED - immediate=true", BrokerRefused, None),
    (540, "NOT_IMPLEMENTED - queue.purge not supported by stream queues queue 's' in vhost '/'", BrokerRefused, None),
    (530, "Authentication failed", BrokerRefused, "correct user and password"),
    (404, "Unknown virtual host: 'v'", BrokerRefused, "add it to the broker"),
    (403, "Permission CREATE is denied for : Queue 'q' on VirtualHost 'v'", BrokerRefused, "access control list"),
    (403, "Cannot subscribe to queue 'q' permission denied", BrokerRefused, "access control list"),
    (405, "Queue 'q' is exclusive, but not created on this Connection.", ObjectLocked, "not exclusive"),
    (530, "Queue 'q' is exclusive, but not created on this Connection.", ObjectLocked, "not exclusive"),
    (530, "Queue has an incompatible exclusivity policy", ObjectLocked, "not exclusive"),
    (403, "Cannot subscribe to queue 'q' as it already has an existing exclusive consumer", ObjectLocked,
     "not exclusive"),
    (530, "Attempt to redeclare exchange: 'x' of type topic to fanout.", BrokerRefused, "correct the type"),
    (530, "Attempt to declare exchange: 'amq.x' which begins with reserved prefix.", BrokerRefused, "keeps this to"),
    (542, "Error creating queue 'q': Unsupported queue declare argument(s) : x-max-length", BrokerRefused, "arguments"),
    (311, "Message size of 9 greater than allowed maximum of 8", MessageTooLarge, None),
    (0, "Couldn't find appropriate auth mechanism (can offer: EXTERNAL; available: PLAIN, AMQPLAIN)", BrokerRefused,
     "rabbitmq_auth_mechanism_ssl"),
]


@pytest.mark.parametrize(("code", "text", "kind", "advice"), REFUSALS, ids=[text[:60] for _, text, *_ in REFUSALS])
def test_refusal_has_its_class_and_advice_that_fits(
    code: int, text: str, kind: type[Exception], advice: str | None
) -> None:
    found = refusal(said(code, text))
    assert type(found) is kind
    assert text in str(found)
    if advice is not None:
        assert advice in str(found).partition(text)[2]


#: What passes by itself.
FAULTS = [
    (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"),
    (404, "NOT_FOUND - no queue 'q' in vhost '/'"),
    (404, "NOT_FOUND - no exchange 'e' in vhost '/'"),
    (404, "NOT_FOUND - home node 'n' of durable queue 'q' in vhost '/' is down or inaccessible"),
    (504, "CHANNEL_ERROR - expected 'channel.open'"),
    (506, "RESOURCE_ERROR - out of memory"),
    (541, "INTERNAL_ERROR"),
    (311, "Channel flow control was requested, but not enforced by sender"),
    (541, "INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost 'v' is down"),
]


@pytest.mark.parametrize(("code", "text"), FAULTS)
def test_what_may_pass_is_no_refusal(code: int, text: str) -> None:
    assert refusal(said(code, text)) is None


def test_refusal_is_found_inside_of_kombus_error() -> None:
    error = OperationalError("x")
    error.__cause__ = said(530, "NOT_ALLOWED - vhost nowhere not found")
    assert isinstance(refusal(error), BrokerRefused)
    assert refusal(OSError("connection reset")) is None


@pytest.mark.parametrize("dialect", [UNKNOWN, DIALECTS["RabbitMQ"]])
def test_queue_that_is_down_is_not_missing(dialect: Dialect) -> None:
    assert dialect.is_down(
        said(404, "NOT_FOUND - home node 'n' of durable queue 'q' in vhost '/' is down or inaccessible")
    )
    assert dialect.is_down(said(404, "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor"))
    assert not dialect.is_down(said(404, "NOT_FOUND - no queue 'q' in vhost '/'"))


@pytest.mark.parametrize(("code", "text", "kind", "advice"), REFUSALS, ids=[text[:60] for _, text, *_ in REFUSALS])
def test_client_is_told_of_a_refusal_and_nothing_of_the_broker(
    code: int, text: str, kind: type[Exception], advice: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    found = refusal(said(code, text))
    assert found is not None
    status, document, headers = answer(found)
    shown = " ".join(document.values())
    assert (status, headers["Retry-After"]) == (503, str(REFUSED_RETRY_AFTER))
    assert REFUSED_RETRY_AFTER > RETRY_AFTER
    assert not [word for word in ("try again", "may have been", "vhost", "queue 'q'", "user") if word in shown]
    assert text in caplog.text


class TestSizes:
    """A message that is too large is refused before the others of its batch are sent."""

    def broker(self, limit: int | None) -> list[int]:
        self.probed: list[int] = []

        def probe(size: int) -> None:
            self.probed.append(size)
            if limit is not None and size > limit:
                raise MessageTooLarge("larger than configured max size", limit)

        self.probe = probe
        return self.probed

    def test_batch_is_probed_once(self) -> None:
        probed, sizes = self.broker(None), Sizes()
        for _ in range(3):
            sizes.check([10, 5000], self.probe)
        assert probed == [8192]

    def test_batch_with_one_too_large_is_refused(self) -> None:
        probed, sizes = self.broker(1000), Sizes()
        for _ in range(3):
            with pytest.raises(MessageTooLarge, match="1000"):
                sizes.check([10, 1001], self.probe)
        sizes.check([10, 1000], self.probe)
        assert probed == [1024]

    def test_probe_that_is_not_permitted_stops_no_post(self) -> None:
        probed, sizes = [], Sizes()

        def probe(size: int) -> None:
            probed.append(size)
            raise BrokerRefused("access to exchange 'amq.default' refused")

        for _ in range(3):
            sizes.check([10, 5000], probe)
        assert len(probed) == 1

    def test_single_message_is_its_own_probe(self) -> None:
        probed, sizes = self.broker(1000), Sizes()
        sizes.check([5000], self.probe)
        assert probed == []
        sizes.learn(MessageTooLarge("x", 1000))
        with pytest.raises(MessageTooLarge):
            sizes.check([5000], self.probe)
        sizes.check([1000], self.probe)

    def test_limit_may_be_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broker(None)
        sizes = Sizes()
        sizes.learn(MessageTooLarge("x", 1000))
        later = time.monotonic() + KNOWN_FOR + 1
        monkeypatch.setattr("bridges.amqp.sizes.time.monotonic", lambda: later)
        sizes.check([5000], self.probe)
