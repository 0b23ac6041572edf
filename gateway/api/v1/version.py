"""What version 1 is called, and what it asks of callers."""

from __future__ import annotations

from gateway.web.version import Version

V1 = Version(
    id="1", status="DEPRECATED", updated="2014-9-11T17:47:05Z",
    media_type="application/vnd.openstack.messaging-v1+json", root="/v1", signable=False,
    rules_for_anybody=False, nameless=True, uuids_only=True,
)
