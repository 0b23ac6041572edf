"""Who may do what: oslo.policy's rules for every call, with their defaults in code.

Names of rules are those of OpenStack Messaging (Zaqar), so that operators' policy files fit; the defaults are the roles
reader, member and admin of OpenStack's secure RBAC.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from oslo_config import cfg
from oslo_policy import opts, policy

from gateway.access.auth.base import Identity, IdentityUnavailable

LOG = logging.getLogger(__name__)

#: The rule that says who acts for all projects.
ADMIN = "context_is_admin"

#: Seconds for which a decision is remembered, and between two looks at whether the policy's files have changed.
REMEMBERED_FOR = 1.0
REMEMBERED_AT_MOST = 10_000

#: What [oslo_policy] policy_file is when nobody has said; there need not be such a file.
DEFAULT_FILE = "policy.yaml"

_READER, _MEMBER = "rule:project_reader_or_admin", "rule:project_member_or_admin"

_QUEUE = "/v2/queues/{queue_name}"


def _rule(name: str, check: str, description: str, *operations: str) -> policy.DocumentedRuleDefault:
    pairs = (operation.split(" ") for operation in operations)
    return policy.DocumentedRuleDefault(name, check, description, [{"method": m, "path": path} for m, path in pairs])


#: What the rules of the calls are made of. ``admin_or_owner`` is there for policy files that were written for Zaqar.
ROLES = (
    policy.RuleDefault(ADMIN, "role:admin", "Acts for all projects."),
    policy.RuleDefault("admin_or_owner", f"rule:{ADMIN} or project_id:%(project_id)s", "Anybody of the project."),
    policy.RuleDefault(
        "project_reader_or_admin", f"rule:{ADMIN} or (role:reader and project_id:%(project_id)s)", "Looks at things.",
    ),
    policy.RuleDefault(
        "project_member_or_admin", f"rule:{ADMIN} or (role:member and project_id:%(project_id)s)", "Works with them.",
    ),
)

#: A rule for each call; calls are matched with rules by method and path.
CALLS = (
    _rule("queues:get_all", _READER, "List queues.", "GET /v2/queues"),
    _rule("queues:create", _MEMBER, "Make a queue, or replace its metadata.", f"PUT {_QUEUE}"),
    _rule("queues:get", _READER, "Read a queue's metadata, or whether it exists.", f"GET {_QUEUE}", f"HEAD {_QUEUE}"),
    _rule("queues:delete", _MEMBER, "Delete a queue.", f"DELETE {_QUEUE}"),
    _rule("queues:update", _MEMBER, "Change a queue's metadata.", f"PATCH {_QUEUE}"),
    _rule("queues:stats", _READER, "Count a queue's messages.", f"GET {_QUEUE}/stats"),
    _rule("queues:share", _MEMBER, "Pre-sign requests, of which each must be allowed too.", f"POST {_QUEUE}/share"),
    _rule("queues:purge", _MEMBER, "Delete everything in a queue.", f"POST {_QUEUE}/purge"),
    _rule("messages:get_all", _READER, "List messages, or read several by their ids.", f"GET {_QUEUE}/messages"),
    _rule("messages:create", _MEMBER, "Post messages.", f"POST {_QUEUE}/messages"),
    _rule("messages:get", _READER, "Read a message.", f"GET {_QUEUE}/messages/{{message_id}}"),
    _rule("messages:delete", _MEMBER, "Delete a message.", f"DELETE {_QUEUE}/messages/{{message_id}}"),
    _rule("messages:delete_all", _MEMBER, "Delete several messages by their ids, or pop.", f"DELETE {_QUEUE}/messages"),
    _rule("claims:create", _MEMBER, "Claim messages.", f"POST {_QUEUE}/claims"),
    _rule("claims:get", _READER, "Read a claim and its messages.", f"GET {_QUEUE}/claims/{{claim_id}}"),
    _rule("claims:update", _MEMBER, "Renew a claim.", f"PATCH {_QUEUE}/claims/{{claim_id}}"),
    _rule("claims:delete", _MEMBER, "Release a claim.", f"DELETE {_QUEUE}/claims/{{claim_id}}"),
    _rule("ping:get", "", "Ask whether the service works.", "GET /v2/ping"),
    _rule("health:get", f"rule:{ADMIN}", "Try every kind of operation; needs admin_mode too.", "GET /v2/health"),
)

#: Names of rules by method and path.
BY_CALL = {(call["method"], call["path"]): rule.name for rule in CALLS for call in rule.operations}


def list_rules() -> Sequence[policy.RuleDefault]:
    """All rules with their defaults, for oslo.policy's tools."""
    return [*ROLES, *CALLS]


class Policy:
    """Decides by the defaults and the files of ``[oslo_policy]``, which are read again when they change.

    oslo.policy looks at the files and walks through the rules each time; that is done once a second here.
    """

    def __init__(self, conf: Any):
        """Raises ValueError with what is wrong with the files."""
        self._conf = conf
        opts.set_defaults(conf)  # registers them
        self._lock = threading.Lock()
        self._decisions: dict[tuple[str, Identity, str], bool] = {}
        self._forget_at = time.monotonic() + REMEMBERED_FOR
        self._stamp = self._look()
        self._enforcer = self._load()

    def allows(self, rule: str, identity: Identity, project: str) -> bool:
        """May this caller do what the rule is for in this project? Raises IdentityUnavailable."""
        if time.monotonic() >= self._forget_at:
            self._refresh()
        decisions, key = self._decisions, (rule, identity, project)
        allowed = decisions.get(key)
        if allowed is None:
            allowed = self._decide(rule, identity, project)
            if len(decisions) < REMEMBERED_AT_MOST:
                decisions[key] = allowed
        return allowed

    def _decide(self, rule: str, identity: Identity, project: str) -> bool:
        creds = {"roles": list(identity.roles), "project_id": identity.project, "user_id": identity.user}
        try:
            return bool(self._enforcer.enforce(rule, {"project_id": project}, creds))
        except (OSError, RuntimeError) as error:  # of rules that ask another server (http: and https:)
            raise IdentityUnavailable(f"{rule}: {error}") from error

    def describe(self) -> str:
        """What the files change, for the operator."""
        changed = self._enforcer.file_rules
        if not changed:
            return "no policy file: defaults"
        unused = sorted(set(changed) - {rule.name for rule in list_rules()})
        return f"{len(changed)} rules in {self._enforcer.policy_path or 'policy_dirs'}" + (
            f"; of no use here: {', '.join(unused)}" if unused else ""
        )

    def _refresh(self) -> None:
        """Forget the decisions, and read the files again if they have changed."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is at it
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._enforcer = self._load()
                LOG.info("policy: %s", self.describe())
        except ValueError as error:
            LOG.error("%s; going on with the rules known last", error)
        finally:
            self._decisions = {}
            self._forget_at = time.monotonic() + REMEMBERED_FOR
            self._lock.release()

    def _files(self) -> list[str]:
        """Every file that there is of those that may hold rules."""
        options = self._conf.oslo_policy
        found = [self._conf.find_file(name) for name in (options.policy_file, *options.policy_dirs)]
        files = []
        for path in filter(None, found):
            inside = [os.path.join(path, name) for name in sorted(os.listdir(path))] if os.path.isdir(path) else []
            files += [path, *inside]
        return files

    def _look(self) -> list[tuple[str, int, int]]:
        """What the files look like from outside."""
        stamp = []
        for path in self._files():
            with contextlib.suppress(OSError):  # one may go between two looks
                status = os.stat(path)
                stamp.append((path, status.st_mtime_ns, status.st_size))
        return stamp

    def _load(self) -> policy.Enforcer:
        """The rules as they are now. Raises ValueError with what is wrong with them."""
        file = self._conf.oslo_policy.policy_file
        if file != DEFAULT_FILE and not self._conf.find_file(file):
            raise ValueError(f"[oslo_policy] policy_file: there is no {file}")
        enforcer = policy.Enforcer(self._conf)
        enforcer.register_defaults(list_rules())
        try:
            enforcer.load_rules(force_reload=True)
            enforcer.check_rules(raise_on_violation=True)
        except policy.InvalidDefinitionError as error:
            raise ValueError(f"[oslo_policy] policy_file: rules refer to none, or in a circle: {error}") from error
        except (ValueError, TypeError, AttributeError, OSError, cfg.Error) as error:  # no YAML, or not of this form
            raise ValueError(f"[oslo_policy] policy_file: {error}") from error
        enforcer.use_conf = False  # it would read files itself, and do without rules when they are broken
        return enforcer
