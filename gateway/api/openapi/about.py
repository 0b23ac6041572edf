"""What is said about the API as a whole."""

from __future__ import annotations

ABOUT = """\
Queues, messages, claims, subscriptions and topics: the OpenStack Messaging API v2.

Every call needs a project, whose queues it is about, and a client, who calls: `X-Project-ID` and `Client-ID`.

`HEAD` works wherever `GET` does. Paths may end in a slash. Booleans in queries may also be `yes`, `no`, `1` and `0`,
lists may also be repeated parameters, and a `Client-ID` may also be in braces or a URN.

Every error has the form of the schema `Error`. A request that can't be read is answered 408, 414, 417, 431, 501 or 505
in this form, and the connection is closed.
"""

#: What each tag is about.
TAGS = {
    "Service": "What the service can do, and whether it works.",
    "Queues": "Queues and their metadata. The first post creates a queue that does not exist.",
    "Messages": "Messages of a queue.",
    "Claims": "The right to some messages for a while: nobody else gets them meanwhile.",
    "Subscriptions": "Who is sent each message that is posted to a queue.",
    "Deliveries": "How the deliveries of a subscription go, and those that failed.",
    "Secrets": "What deliveries are signed with, in the form of Standard Webhooks.",
    "Topics": "Names that messages are posted to for those who have subscribed. A topic keeps none.",
    "Subscriptions of topics": "Who is sent each message that is posted to a topic.",
    "Deliveries of topics": "How the deliveries of a topic's subscription go, and those that failed.",
    "Secrets of topics": "What deliveries of a topic's subscription are signed with.",
    "Pools": "Brokers and side-stores that queues are put into. For administrators.",
    "Flavors": "Kinds of pools that queues ask for. For administrators.",
    "Migrations": "Moves of queues to other pools. For administrators.",
}
