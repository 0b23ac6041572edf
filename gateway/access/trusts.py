"""Trusts of Keystone: callers let the user of [trustee] act in their name, for as long as their subscriptions last.

See https://docs.openstack.org/api-ref/identity/v3-ext/#os-trust-api.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.access.auth.base import Identity, IdentityUnavailable
from gateway.core.errors import Forbidden, InvalidInput
from gateway.core.gate import Gate
from gateway.core.subscriptions.trusts import NoToken
from gateway.observe.logs import printable

LOG = logging.getLogger(__name__)

GROUP = "trustee"

#: Seconds for one request to Keystone unless [trustee] timeout says otherwise.
TIMEOUT = 5

#: What a token can be for instead of a trust.
SCOPES = frozenset((
    "system_scope", "domain_id", "domain_name", "project_id", "project_name", "project_domain_id",
    "project_domain_name",
))

#: Part of the threads that make trusts at most: Keystone may be slow.
AT_ONCE = 0.25

#: Characters of Keystone's reasons that are passed on.
MAX_REASON = 500

#: Statuses of Keystone, or of a proxy before it, that say nothing about the request.
PASSING = (408, 429)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class KeystoneTrusts:
    """Makes and deletes trusts, and gets tokens for them. Thread-safe; each request to Keystone has a timeout."""

    def __init__(self, conf: Any):
        """Raises ValueError with a text for the operator if [trustee] can't be used."""
        # Not above: half a second that services without Keystone need not spend.
        from keystoneauth1 import exceptions, loading, plugin

        self._errors = exceptions
        loading.register_auth_conf_options(conf, GROUP)
        loading.register_session_conf_options(conf, GROUP)
        options = conf[GROUP]
        try:
            # It registers the options of the plugin.
            self._own: Any = loading.load_auth_from_conf_options(conf, GROUP)
            if self._own is None:
                raise ValueError(f"[{GROUP}] auth_type is not set")
            found = conf[options.auth_section or GROUP]
            self._loader: Any = loading.get_plugin_loader(found.auth_type)
            self._options = {option.dest: found[option.dest] for option in self._loader.get_options()}
            if "trust_id" not in self._options:
                raise ValueError(f"[{GROUP}] auth_type = {found.auth_type} knows no trusts; password does")
            for file in filter(None, (options.cafile, options.certfile, options.keyfile)):
                open(file, "rb").close()
            self._session = loading.load_session_from_conf_options(
                conf, GROUP, auth=self._own, timeout=options.timeout or TIMEOUT
            )
        except (exceptions.ClientException, OSError) as error:
            raise ValueError(f"[{GROUP}] {error}") from error
        #: Keystone as auth_url has it, not as the catalogue does.
        self._endpoint = {
            "service_type": "identity", "interface": plugin.AUTH_INTERFACE, "min_version": "3",
            "max_version": "3.latest",
        }
        self._gate = Gate(
            max(1, int(conf.wsgi.threads * AT_ONCE)), 0, 0.0, "Many trusts are being made now; try again in a moment"
        )

    # -- for those who subscribe --------------------------------------------------------------------------------

    def create(self, identity: Identity, project: str, expires: int) -> str:
        """The id of a new trust: the caller's roles in the project, until ``expires`` (ms since the epoch).

        Raises InvalidInput for a caller without a token, Forbidden with Keystone's reason, IdentityUnavailable, Busy.
        """
        if not identity.token:
            raise InvalidInput("Subscribers of type trust+http and trust+https take a request with a token of Keystone")
        with self._gate.turn():
            try:
                trustee = self._own.get_user_id(self._session)
            except (self._errors.ClientException, OSError) as error:
                raise IdentityUnavailable(f"Keystone, for [{GROUP}]: {type(error).__name__}: {error}") from error
            with self._asked():
                token = self._request("GET", "/auth/tokens?nocatalog=1", identity.token, identity.token)["token"]
                made = self._request("POST", "/OS-TRUST/trusts", identity.token, json={"trust": {
                    "trustor_user_id": token["user"]["id"],
                    "trustee_user_id": trustee,
                    "project_id": project,
                    "impersonation": True,
                    "roles": [{"id": role["id"]} for role in token.get("roles", ())],
                    "expires_at": (_EPOCH + timedelta(milliseconds=expires)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                }})
                return str(made["trust"]["id"])

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """What Keystone's answers to a caller's requests mean for the caller."""
        try:
            yield
        except self._errors.HTTPClientError as error:
            if error.http_status in PASSING:
                raise IdentityUnavailable(f"Keystone: {error}") from error
            reason = printable(str(error.message))[:MAX_REASON]
            raise Forbidden(f"Keystone refuses a trust, which this type of subscriber needs: {reason}") from error
        except (self._errors.ClientException, OSError, LookupError, ValueError, TypeError) as error:
            raise IdentityUnavailable(f"Keystone: {type(error).__name__}: {error}") from error

    def _request(self, method: str, path: str, token: str, subject: str = "", **more: Any) -> Any:
        headers = {"X-Auth-Token": token, "Accept": "application/json"}
        if subject:
            headers["X-Subject-Token"] = subject
        answer = self._session.request(
            path, method, headers=headers, authenticated=False, endpoint_filter=self._endpoint, log=False, **more
        )
        return answer.json() if answer.content else None

    # -- for the subscriptions ----------------------------------------------------------------------------------

    def _of(self, trust_id: str) -> Any:
        """A plugin whose tokens are for a trust."""
        values = self._options | {"trust_id": trust_id}
        return self._loader.load_from_options_getter(
            lambda option: values[option.dest], **dict.fromkeys(SCOPES & set(values))
        )

    def token(self, trust_id: str) -> tuple[str, float]:
        """A new token for a trust, and seconds until it expires. Raises NoToken."""
        try:
            access = self._of(trust_id).get_access(self._session)
            return access.auth_token, (access.expires - datetime.now(UTC)).total_seconds()
        except (self._errors.ClientException, OSError, LookupError, ValueError, TypeError) as error:
            raise NoToken(f"Keystone: {type(error).__name__}: {error}") from error

    def delete(self, trust_id: str) -> bool:
        """Delete a trust; False if Keystone can't be asked now. One that nobody may delete ends by itself."""
        path = f"/OS-TRUST/trusts/{trust_id}"
        try:
            own = self._own.get_token(self._session)
        except (self._errors.ClientException, OSError) as error:
            LOG.warning("Keystone, for [%s]: %s: %s", GROUP, type(error).__name__, error)
            return False
        try:
            self._request("GET", path, own)
            # With a token for the trust its trustee is the trustor, who may delete it.
            refused = self._refused(path, trust_id) and self._refused(path)
            if refused:
                LOG.warning("trust %s can't be deleted, and lasts until it expires: %s", trust_id, refused)
        except self._errors.NotFound:
            pass
        except (self._errors.ClientException, OSError) as error:
            LOG.warning("Keystone: trust %s: %s: %s", trust_id, type(error).__name__, error)
            return False
        return True

    def _refused(self, path: str, trust_id: str = "") -> str:
        """Why a trust may not be deleted with a token for it, or with the trustee's own; empty if it was."""
        try:
            plugin = self._of(trust_id) if trust_id else self._own
            self._request("DELETE", path, plugin.get_token(self._session))
        except (self._errors.Unauthorized, self._errors.Forbidden) as error:
            return str(error)
        return ""

    def ping(self) -> str:
        """Have the trustee get a token. Raises ValueError."""
        try:
            return f"user {self._own.get_user_id(self._session)}"
        except (self._errors.ClientException, OSError) as error:
            raise ValueError(f"[{GROUP}] {error}") from error


def create_trusts(conf: Any) -> KeystoneTrusts | None:
    """Trusts as [trustee] has them; None if callers have no tokens of Keystone, or if it names no user.

    Raises ValueError.
    """
    if conf.auth_strategy != "keystone":
        return None
    from keystoneauth1 import loading

    loading.register_auth_conf_options(conf, GROUP)
    section = conf[GROUP].auth_section or GROUP
    return KeystoneTrusts(conf) if conf[section].auth_type else None


