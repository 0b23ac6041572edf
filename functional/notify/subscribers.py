"""What tests of notifications do through the API."""

import uuid
from typing import Any

from functional.http import Api


class Subscriber:
    """Subscribes receivers to a queue of its own, and posts to it."""

    def __init__(self, api: Api, queue: str | None = None) -> None:
        self.api = api
        self.queue = queue or f"queue-{uuid.uuid4().hex[:12]}"

    def subscribe(self, url: str, **options: Any) -> str:
        """The id of a new subscription."""
        body = {"subscriber": url, "ttl": 3600, "options": options}
        answer = self.api.post(f"/v2/queues/{self.queue}/subscriptions", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["subscription_id"])

    def post(self, *bodies: Any, ttl: int = 600) -> list[str]:
        """The ids of new messages."""
        messages = [{"body": body, "ttl": ttl} for body in bodies]
        answer = self.api.post(f"/v2/queues/{self.queue}/messages", json={"messages": messages})
        assert answer.status_code == 201, answer.text
        return [href.rpartition("/")[2] for href in answer.json()["resources"]]

    def post_many(self, count: int) -> None:
        """Post the numbers below `count`, twenty at a time."""
        for first in range(0, count, 20):
            self.post(*range(first, min(first + 20, count)))

    def of(self, subscription: str, what: str) -> Any:
        """What the API says below a subscription, such as its status."""
        answer = self.api.get(f"/v2/queues/{self.queue}/subscriptions/{subscription}/{what}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def delete(self, subscription: str) -> None:
        answer = self.api.delete(f"/v2/queues/{self.queue}/subscriptions/{subscription}")
        assert answer.status_code == 204, answer.text
