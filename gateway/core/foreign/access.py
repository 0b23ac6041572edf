"""Who may bridge what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from bridges.bridging import Use
from gateway.core.errors import Forbidden

#: Names that nobody may bridge: the gateway's own queues, and what belongs to the broker.
RESERVED = ("marconi.", "marconi-", "amq.")

#: But the broker's own exchanges may be read where a rule names them, without a pattern.
READABLE = "exchange:amq."

#: What a rule may allow. ``*`` is to read and to write; declaring has to be said, as it makes something for others.
RIGHTS = {"read": {"read"}, "write": {"write"}, "declare": {"declare"}, "*": {"read", "write"}}

#: The role that may bridge what no rule allows, in admin mode.
ADMIN = "admin"


class AccessRules:
    """Rules ``PROJECT RIGHT VHOST OBJECT`` of patterns; nothing else may be bridged.

    ``rules`` as the operator writes them; raises ValueError for one of another form.
    """

    def __init__(self, rules: Sequence[str], admin_mode: bool):
        self._admin_mode = admin_mode
        self._rules: list[list[str]] = []
        for text in rules:
            rule = text.split()
            if len(rule) != 4 or rule[1] not in RIGHTS:
                raise ValueError(
                    f"[bridging] allow: {text!r} is not of the form PROJECT RIGHT VHOST OBJECT,"
                    " like: shop read / queue:orders-*"
                )
            self._rules.append(rule)

    def check(self, project: str, roles: Sequence[str], own_vhost: str, uses: Iterable[Use]) -> None:
        """Raises Forbidden when the project may not use one of these objects so."""
        for use in uses:
            self._check_use(project, roles, use.right, use.vhost or own_vhost, use.object)

    def _check_use(self, project: str, roles: Sequence[str], right: str, vhost: str, thing: str) -> None:
        reserved = thing.partition(":")[2].startswith(RESERVED)
        exact = right == "read" and thing.startswith(READABLE)
        allowed = not (reserved and not exact) and any(
            fnmatchcase(project, rule[0]) and right in RIGHTS[rule[1]] and fnmatchcase(vhost, rule[2])
            and (thing == rule[3] if exact else fnmatchcase(thing, rule[3]))
            for rule in self._rules
        )
        if allowed or (not reserved and self._admin_mode and ADMIN in roles):
            return
        raise Forbidden(f"Your project may not {right} {thing.replace(':', ' ', 1)} in vhost {vhost}")
