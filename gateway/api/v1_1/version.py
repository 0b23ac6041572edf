"""What version 1.1 is called, and what it asks of callers."""

from __future__ import annotations

from gateway.web.version import Version

V1_1 = Version(
    id="1.1", status="DEPRECATED", updated="2016-7-29T02:22:47Z",
    media_type="application/vnd.openstack.messaging-v1_1+json", root="/v1.1", signable=False, rules_for_anybody=False,
)
