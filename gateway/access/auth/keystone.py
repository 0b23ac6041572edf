"""Tokens of OpenStack Identity, checked by keystonemiddleware's auth_token."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import math
import re
import secrets
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from cachetools import TTLCache

from gateway.access.auth.base import AuthStrategy, Identity, IdentityUnavailable, Unauthenticated
from gateway.core.gate import Gate

LOG = logging.getLogger(__name__)

GROUP = "keystone_authtoken"

#: Seconds for one request to Keystone, and tries after the first, when nobody has said: auth_token would wait for ever,
#: and try for four seconds to reach a Keystone that is not there.
TIMEOUT = 3
RETRIES = 1

#: Tokens that a process remembers when there is no memcached.
REMEMBERED_AT_MOST = 1000

#: Part of the threads that don't ask Keystone, however many new tokens come: they are for those that are known.
SPARED = 0.25

#: All that auth_token is shown of a request; other headers could only pretend to be what it adds.
SHOWN = (
    "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme", "HTTP_X_AUTH_TOKEN",
    "HTTP_X_SERVICE_TOKEN",
)

#: What a token is made of; Keystone's are at most 255 bytes long by default, and others' some thousand.
TOKEN = re.compile(r"[\x21-\x7e]{1,8192}\Z")

WRONG = "The token is wrong, has expired or was revoked"

#: Type of this service in the catalogue; seconds for which what that says, or that it says nothing, is remembered.
CATALOGUED = "messaging"
CATALOGUE_FOR = 60.0

#: Where auth_token finds the cache for tokens, and leaves who is calling, in the WSGI environment.
CACHE, IDENTITY = "marconi.token_cache", "marconi.identity"

#: Where auth_token leaves what Keystone says about the token.
TOKEN_INFO = "keystone.token_info"  # nosec B105


class KeystoneAuth(AuthStrategy):
    """The project, user and roles of the token in X-Auth-Token.

    auth_token would be a filter in front of the whole service. It is asked for single requests here, since those that
    are pre-signed have no token, and since its answers would not be this API's.
    """

    def __init__(self, conf: Any):
        # Not above: half a second that other strategies need not spend.
        from keystoneauth1 import exceptions, loading, session
        from keystonemiddleware import auth_token

        self._errors = exceptions.ClientException
        conf.register_opts(dict(auth_token.list_opts())[GROUP], group=GROUP)
        options = conf[GROUP]
        try:
            self._plugin = loading.load_auth_from_conf_options(conf, GROUP)
        except exceptions.ClientException as error:
            raise ValueError(f"[{GROUP}] {error}") from error
        if self._plugin is None:
            raise ValueError(f"[{GROUP}] auth_type is not set; auth_strategy = keystone needs it, usually as password")
        for name in ("cafile", "certfile", "keyfile"):
            if file := getattr(options, name):
                try:
                    open(file, "rb").close()
                except OSError as error:  # later it would look as if Keystone were down
                    raise ValueError(f"[{GROUP}] {name}: {error}") from error
        self._url = getattr(self._plugin, "auth_url", None) or ""
        timeout = options.http_connect_timeout or TIMEOUT
        forced = {
            # Or Keystone's being down could not be told from a wrong token.
            "delay_auth_decision": False,
            "http_connect_timeout": timeout,
            # Where callers are sent for a token. auth_token would ask Keystone's catalogue for it.
            "www_authenticate_uri": options.www_authenticate_uri or self._url,
        }
        if not conf.get_location("http_request_max_retries", GROUP).location.is_user_controlled:
            forced["http_request_max_retries"] = RETRIES
        self._added = {}
        if not options.memcached_servers:
            forced["cache"] = CACHE
            self._added[CACHE] = TokenCache(options.token_cache_time)
        elif importlib.util.find_spec("memcache") is None:
            raise ValueError(f"[{GROUP}] memcached_servers needs python-memcached: pip install marconi[memcached]")
        try:
            self._filter = auth_token.AuthProtocol(_take_identity, {"oslo_config_config": conf, **forced})
        except auth_token.ConfigurationError as error:
            raise ValueError(f"[{GROUP}] {error}") from error
        cert = (options.certfile, options.keyfile) if options.keyfile else options.certfile
        verify = not options.insecure and (options.cafile or True)
        self._session = session.Session(self._plugin, verify=verify, cert=cert, timeout=timeout)
        # A slow Keystone, or many wrong tokens, would keep all threads waiting for it.
        threads: int = conf.wsgi.threads
        self._gate = Gate(
            max(1, threads - math.ceil(threads * SPARED)), 0, 0.0,
            "Many tokens are being checked now; try again in a moment",
        )
        self._known = TokenCache(options.token_cache_time)
        self._salt = secrets.token_bytes(32)
        self._region = options.region_name
        self._url_lock = threading.Lock()
        self._public_urls: TTLCache[str, str] = TTLCache(1, CATALOGUE_FOR)
        self._challenge = f'Keystone uri="{forced["www_authenticate_uri"]}"'

    def identify(self, environ: Mapping[str, Any]) -> Identity:
        token = environ.get("HTTP_X_AUTH_TOKEN", "")
        if not token:
            raise Unauthenticated("Send a token of Keystone in X-Auth-Token", self._challenge)
        if not TOKEN.match(token):  # Keystone need not be asked, and some could not be sent to it
            raise Unauthenticated(WRONG, self._challenge)
        own = {name: environ[name] for name in SHOWN if name in environ} | self._added
        status = ""

        def start_response(line: str, headers: Any, exc_info: Any = None) -> Any:
            nonlocal status
            status = line

        digest = hashlib.blake2b(token.encode(), key=self._salt).hexdigest()
        try:
            with nullcontext() if self._known.get(digest) else self._gate.turn():
                self._filter(own, start_response)
        except (self._errors, OSError, LookupError) as error:
            raise IdentityUnavailable(f"Keystone: {type(error).__name__}: {error}") from error
        identity = own.get(IDENTITY)
        if isinstance(identity, Identity):
            self._known.set(digest, b"known")
            return identity
        if status.startswith("401"):
            raise Unauthenticated(WRONG, self._challenge)
        raise IdentityUnavailable(f"Keystone at {self._url} can't be reached ({status})")

    def find_public_url(self) -> str:
        """The public endpoint of the type `messaging` in the catalogue that the service's own user gets."""
        with self._url_lock:
            url: str | None = self._public_urls.get(CATALOGUED)
            if url is None:
                try:
                    found = self._session.get_endpoint(
                        service_type=CATALOGUED, interface="public", region_name=self._region, skip_discovery=True
                    )
                except (self._errors, OSError, LookupError) as error:
                    LOG.warning("Keystone's catalogue can't be read: %s: %s", type(error).__name__, error)
                    found = None
                url = self._public_urls[CATALOGUED] = (found or "").rstrip("/").removesuffix("/v2")
            return url

    def ping(self) -> str:
        """Have the service's own user get a token, and that token checked."""
        try:
            self.identify({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_AUTH_TOKEN": self._session.get_token()})
        except (self._errors, IdentityUnavailable, Unauthenticated) as error:
            raise ValueError(f"[{GROUP}] Keystone at {self._url}: {error}") from error
        return f"at {self._url}"


class TokenCache:
    """What auth_token wants of a cache, bounded and shared by the threads of the process; its own is neither."""

    def __init__(self, seconds: int):
        """``seconds`` for which a token is remembered; none if that is not above 0."""
        self._lock = threading.Lock()
        self._tokens: TTLCache[str, bytes] = TTLCache(REMEMBERED_AT_MOST if seconds > 0 else 0, seconds)

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._tokens.get(key)

    def set(self, key: str, value: bytes, time: int = 0) -> None:
        with self._lock:
            if self._tokens.maxsize:
                self._tokens[key] = value


def _expiry(info: Any) -> float:
    """When a token ends (seconds since the epoch), by what auth_token has found out about it."""
    try:
        return datetime.fromisoformat(info["token"]["expires_at"]).timestamp()
    except (LookupError, TypeError, ValueError):
        return math.inf


def _take_identity(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The application behind the filter: what the filter says of the caller goes into the environment."""
    roles = environ.get("HTTP_X_ROLES", "").split(",")
    environ[IDENTITY] = Identity(
        environ.get("HTTP_X_PROJECT_ID") or "",
        environ.get("HTTP_X_USER_ID"),
        tuple(sorted(role.lower() for role in roles if role)),
        environ.get("HTTP_X_AUTH_TOKEN", ""),
        _expiry(environ.get(TOKEN_INFO)),
    )
    start_response("204 No Content", [])
    return []
