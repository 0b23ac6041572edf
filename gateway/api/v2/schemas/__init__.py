"""What is in the bodies of version 2: requests and answers, for the tables of operations."""

from gateway.api.v2.schemas import common, messages, pools, queues, service, subscriptions

__all__ = ["common", "messages", "pools", "queues", "service", "subscriptions"]
