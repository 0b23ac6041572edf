"""Options of access: who is calling, what a project may use, and what is recorded."""

from __future__ import annotations

from typing import Any

from oslo_config import cfg, types


class DeprecatedVersions(types.List):
    """A list of versions of the API that are deprecated, in any form that operators of OpenStack Zaqar write.

    Its option there is a list of lists, so ``[[1],[1.1]]`` is the same as ``1,1.1``.
    """

    #: What stands around versions.
    _AROUND = str.maketrans("", "", "[]'\"")

    def __init__(self) -> None:
        super().__init__(types.String(choices=["1", "1.1"]), type_name="list of 1, 1.1")

    def __call__(self, value: Any) -> list[str]:
        found: list[str] = super().__call__(value.translate(self._AROUND) if isinstance(value, str) else value)
        return found


DEFAULT_OPTS = (
    cfg.StrOpt(
        "auth_strategy", default="noauth",
        help="How clients authenticate. noauth: they don't, and the X-Project-ID header is believed. basic: by a user"
             " and password from [basic] htpasswd_file. keystone: by a token of the Keystone service in"
             " [keystone_authtoken].",
    ),
    cfg.BoolOpt("admin_mode", default=False, help="Serve the operator's part of the API (/v2/health)."),
    cfg.Opt(
        "enable_deprecated_api_versions", type=DeprecatedVersions(), default=[],
        help="Versions of the API to serve beside v2: 1 and 1.1, separated by commas. They work on the same queues, and"
             " know no roles: all callers of a project may do everything there, with admin_mode to pools, too.",
    ),
    cfg.BoolOpt("enable_checksum", default=False, help="Show an MD5 checksum of the body with each message."),
    cfg.BoolOpt(
        "client_id_uuid_safe", default=True,
        help="Accept only UUIDs as Client-ID. False: accept any string of min_length_client_id to max_length_client_id"
             " characters.",
    ),
    cfg.IntOpt(
        "min_length_client_id", default=10, min=1, max=255,
        help="Minimum length of a Client-ID that is not a UUID, in characters.",
    ),
    cfg.IntOpt(
        "max_length_client_id", default=36, min=1, max=255,
        help="Maximum length of a Client-ID that is not a UUID, in characters.",
    ),
)

SIGNED_URL_OPTS = (
    cfg.StrOpt(
        "secret_key", secret=True,
        help="Secret key that signs pre-signed URLs. Unset: pre-signed URLs are neither issued nor accepted.",
    ),
)

QUOTA_OPTS = (
    cfg.IntOpt(
        "requests_per_second", default=0, min=0,
        help="Requests per second that one worker process serves for one project. Further requests are answered 429."
             " 0: no limit.",
    ),
    cfg.IntOpt(
        "bytes_per_second", default=0, min=0,
        help="Bytes per second that one worker process accepts from one project in requests that post messages."
             " Further posts are answered 429. 0: no limit.",
    ),
    cfg.IntOpt(
        "queues", default=0, min=0,
        help="Number of queues that one project may have, counted over all gateways. Creating more is answered 403."
             " 0: no limit.",
    ),
    cfg.IntOpt(
        "waiting", default=0, min=0,
        help="Number of requests of one project that may wait for messages at a time in one worker process. Further"
             " ones are answered 429. 0: no limit but that of the process.",
    ),
    cfg.IntOpt(
        "subscriptions", default=0, min=0,
        help="Number of subscriptions that one project may have, counted over all gateways. Creating more is answered"
             " 403. 0: no limit.",
    ),
)

AUDIT_OPTS = (
    cfg.StrOpt(
        "file",
        help="File that records who did what: one JSON object per line for each call that changes something or is"
             " refused. Unset: nothing is recorded.",
    ),
    cfg.BoolOpt("reads", default=False, help="Record calls that only read, too."),
)

BASIC_OPTS = (
    cfg.StrOpt(
        "htpasswd_file",
        help="File of the users for auth_strategy = basic, one per line: user:bcrypt-hash[:project[:roles]]. The"
             " default project is the name of the user. Roles are words separated by commas, like reader,admin; the"
             " default is `member`. `htpasswd -B` writes the first two fields.",
    ),
)
