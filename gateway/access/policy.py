"""Who may do what: oslo.policy's rules for every call. Their defaults come from the APIs' tables of operations.

Names of rules are those of OpenStack Messaging (Zaqar), so that operators' policy files fit; the defaults are the roles
reader, member and admin of OpenStack's secure RBAC.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

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

#: Defaults of the calls' rules: who may make them. "" is anybody who is admitted at all.
READER, MEMBER, ADMINISTRATOR, ANYBODY = (
    "rule:project_reader_or_admin", "rule:project_member_or_admin", f"rule:{ADMIN}", ""
)


class Ruled(Protocol):
    """A call that a rule is for, as an API declares it. Calls may share a rule; then it has the first one's default."""

    @property
    def name(self) -> str:
        """The rule's name."""

    @property
    def method(self) -> str:
        """The HTTP method."""

    @property
    def path(self) -> str:
        """The path, with variables in braces."""

    @property
    def summary(self) -> str:
        """A sentence for the operator."""

    @property
    def default_rule(self) -> str | None:
        """Who may make the call, in oslo.policy's language; None if there is no rule."""


#: What the rules of the calls refer to. ``admin_or_owner`` is there for policy files that were written for Zaqar.
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


def rules_for(calls: Iterable[Ruled]) -> list[policy.RuleDefault]:
    """The rules of these calls with their defaults, after the roles that they refer to."""
    found: dict[str, tuple[str, list[Ruled]]] = {}
    for call in calls:
        if call.default_rule is not None:
            found.setdefault(call.name, (call.default_rule, []))[1].append(call)
    return [*ROLES, *(
        policy.DocumentedRuleDefault(
            name, check, " ".join(dict.fromkeys(call.summary for call in together)),
            [{"method": call.method, "path": call.path} for call in together],
        )
        for name, (check, together) in found.items()
    )]


class Policy:
    """Decides by the defaults and the files of ``[oslo_policy]``, which are read again when they change.

    oslo.policy looks at the files and walks through the rules each time; that is done once a second here.
    """

    def __init__(self, conf: Any, rules: Sequence[policy.RuleDefault]):
        """``rules``: all that there are, with their defaults. Raises ValueError with what is wrong with the files."""
        self._conf = conf
        self._rules = rules
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
        unused = sorted(set(changed) - {rule.name for rule in self._rules})
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
        enforcer.register_defaults(self._rules)
        try:
            enforcer.load_rules(force_reload=True)
            enforcer.check_rules(raise_on_violation=True)
        except policy.InvalidDefinitionError as error:
            raise ValueError(f"[oslo_policy] policy_file: rules refer to none, or in a circle: {error}") from error
        except (ValueError, TypeError, AttributeError, OSError, cfg.Error) as error:  # no YAML, or not of this form
            raise ValueError(f"[oslo_policy] policy_file: {error}") from error
        enforcer.use_conf = False  # it would read files itself, and do without rules when they are broken
        return enforcer
