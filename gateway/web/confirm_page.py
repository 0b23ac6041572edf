"""``/v2/confirm``: where links in mails lead. It asks whether to begin or end a subscription, and does it on a POST.

A GET changes nothing, as scanners of mail open every link. Nobody logs in here: the right to confirm is in the
signature that the link has. Its parameters are those that OpenStack Zaqar gives to such pages, and ``Action``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import flask

from gateway.access.auth.base import Identity
from gateway.access.signing import covers
from gateway.core.errors import InvalidInput, NotFound
from gateway.core.queues.names import topic_project
from gateway.environ import CALLER, base_of
from gateway.web.call import parse_args
from gateway.web.confirm_html import HEADERS, question, statement
from gateway.web.context import Service
from gateway.web.errors import answer

LOG = logging.getLogger(__name__)

ROUTE = "/v2/confirm"

#: Bytes of a form.
LARGEST = 16 * 1024

#: What the button sends again.
FIELDS = ("Signature", "Methods", "Paths", "Project", "Expires", "Action")

#: Values of ``Action``; links without it confirm.
CONFIRM, UNSUBSCRIBE = "confirm", "unsubscribe"

#: What mail programs post for those who press their own button (RFC 8058).
ONE_CLICK = ("List-Unsubscribe", "One-Click")

_NAME = r"[A-Za-z0-9_.-]{1,64}"
_PATH = re.compile(
    rf"(?:/[^?#]*)?/v2/(?P<kind>queues|topics)/(?P<queue>{_NAME})/subscriptions/(?P<id>{_NAME})/confirm\Z"
)

#: By action: title, text, button; title and text once it is done. In texts ``{kind}`` is queue or topic.
WORDS = {
    CONFIRM: (
        "Confirm your subscription", "Do you want to get the messages of this {kind}?", "Yes, send me the messages",
        "Subscription confirmed", "You will get the messages of this {kind} from now on.",
    ),
    UNSUBSCRIBE: (
        "End your subscription", "Do you want to get no more messages of this {kind}?", "Yes, send me no more",
        "Subscription ended", "You will get no more messages of this {kind}.",
    ),
}


@dataclass(frozen=True, slots=True)
class Link:
    """What a link that is valid gives the right to. ``kind``: queue or topic."""

    project: str
    queue: str
    subscription: str
    action: str
    kind: str


class ConfirmPage:
    """Answers GET and POST for the service."""

    def __init__(self, service: Service):
        self._service = service

    def blueprint(self) -> flask.Blueprint:
        """For the application."""
        pages = flask.Blueprint("marconi-confirm", __name__)
        pages.add_url_rule(ROUTE, "page", self.serve, methods=["GET", "POST"], provide_automatic_options=False)
        return pages

    def serve(self) -> flask.Response:
        """The answer to the request at hand."""
        flask.request.max_content_length = LARGEST
        status, headers = 200, dict[str, str]()
        try:
            page = self._post() if flask.request.method == "POST" else self._get()
        except Exception as error:
            status, said, headers = answer(error)
            page = statement(said["title"], said["description"])
        response = flask.Response(page, status)
        response.headers.update({**headers, **HEADERS})
        return response

    def _get(self) -> bytes:
        """A question with a button."""
        parameters = _query()
        link = self._link(parameters)
        title, text, button, *_ = WORDS[link.action]
        fields = {name: parameters[name] for name in FIELDS if name in parameters}
        return question(
            title, text.format(kind=link.kind), link.kind, link.queue, link.project, button, ROUTE.rpartition("/")[2],
            fields,
        )

    def _post(self) -> bytes:
        """What the button stands for. Raises InvalidInput, NotFound, TooFast and what the core raises."""
        form: Mapping[str, str] = flask.request.form
        is_one_click = form.get(ONE_CLICK[0]) == ONE_CLICK[1]
        link = self._link(_query() if is_one_click else form)
        if is_one_click and link.action != UNSUBSCRIBE:
            raise InvalidInput("This link does not end a subscription")
        flask.request.environ[CALLER] = Identity(link.project), link.project
        if self._service.request_rate is not None:
            self._service.request_rate.take(link.project)
        self._service.core.subscription_states.confirm(
            topic_project(link.project) if link.kind == "topic" else link.project, link.queue, link.subscription,
            link.action == CONFIRM,
        )
        LOG.info(
            "subscription %s/%s/%s: %s by its link", link.project, link.queue, link.subscription,
            "confirmed" if link.action == CONFIRM else "ended",
        )
        title, text = WORDS[link.action][3:]
        return statement(title, text.format(kind=link.kind))

    def _link(self, parameters: Mapping[str, str]) -> Link:
        """Raises NotFound for every fault of the signature, so that nothing can be guessed; InvalidInput for others."""
        signature, methods, path, project, expires = (parameters.get(name, "") for name in FIELDS[:5])
        action = parameters.get(FIELDS[5]) or CONFIRM
        if action not in WORDS:
            raise InvalidInput(f"The action must be {' or '.join(WORDS)}")
        key, found = self._service.signing_key, _PATH.match(path)
        if key is None or found is None or not covers(
            key, signature, [path], methods.split(","), project, expires, "PUT", path, base_of(flask.request.environ)
        ):
            raise NotFound("This link is not valid, or is too old. Ask whoever has subscribed you for a new one.")
        return Link(project, found["queue"], found["id"], action, found["kind"].removesuffix("s"))


def _query() -> Mapping[str, str]:
    """The parameters of the request at hand. Raises InvalidInput."""
    return parse_args(flask.request.environ.get("QUERY_STRING", ""))
