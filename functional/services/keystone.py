"""A private Keystone on SQLite with Fernet tokens, and a service catalogue that says where the gateway is."""

import base64
import functools
import importlib.util
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import openstack
import requests
from openstack.connection import Connection

from functional.http import new_session
from functional.services.gateway import Options, render
from functional.services.ports import free_port
from functional.services.process import Missing, Service, StartFailed

#: Seconds for making the tables, or the first user: two of them are imports.
MANAGE_TIMEOUT = 60.0

#: Seconds for one call, and to see whether it is up.
TIMEOUT = 30.0
PROBE_TIMEOUT = 2.0

REGION = "RegionOne"
DOMAIN = "default"

#: The cloud's own admin, in the project `admin`.
ROOT = "root"

#: The user that the gateway asks with, his project and role.
SERVICE_USER, SERVICE_PROJECT, SERVICE_ROLE = "marconi", "service", "service"

#: keystone reads the command line, and would not understand that of another program.
SERVE = """\
import sys
host, port, sys.argv = sys.argv[1], int(sys.argv[2]), ["keystone"]
import waitress
from keystone.wsgi.api import application
waitress.serve(application, host=host, port=port, threads=4)
"""


class Keystone(Service):
    """Ready when it has a domain, an admin with roles admin, manager, member and reader, and answers."""

    start_timeout = 90.0

    def __init__(self, port: int | None = None) -> None:
        if importlib.util.find_spec("keystone") is None:
            raise Missing("Keystone is not installed; install it: `pip install keystone`")
        super().__init__("keystone")
        self.port = port or free_port()
        self.admin_password = secrets.token_hex(16)
        self.service_password = secrets.token_hex(16)
        self._config = self.folder / "keystone.conf"
        self._config.write_text(render(self._options()))
        for name in ("fernet", "credential"):
            _write_keys(self.folder / name)

    def _options(self) -> Options:
        return {
            "database": {"connection": f"sqlite:///{self.folder}/keystone.db"},
            "fernet_tokens": {"key_repository": self.folder / "fernet"},
            "fernet_receipts": {"key_repository": self.folder / "fernet"},
            "credential": {"key_repository": self.folder / "credential"},
            # What is revoked is so at once; passwords of tests need not be slow to guess.
            "cache": {"enabled": False},
            "identity": {"password_hash_rounds": 4},
        }

    @property
    def url(self) -> str:
        """The API's root."""
        return f"http://127.0.0.1:{self.port}/v3"

    def start(self) -> Self:
        if not (self.folder / "keystone.db").exists():
            self._manage("db_sync")
            self._manage(
                "bootstrap", "--bootstrap-username", ROOT, "--bootstrap-password", self.admin_password,
                "--bootstrap-region-id", REGION, "--bootstrap-public-url", self.url,
            )
        return super().start()

    def _manage(self, *arguments: str) -> None:
        command = [str(Path(sys.executable).with_name("keystone-manage")), "--config-file", str(self._config)]
        done = subprocess.run(
            [*command, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=MANAGE_TIMEOUT
        )
        if done.returncode:
            raise StartFailed(f"keystone-manage {arguments[0]}: {done.stdout}{done.stderr}")

    def command(self) -> list[str]:
        return [sys.executable, "-c", SERVE, "127.0.0.1", str(self.port)]

    def environment(self) -> dict[str, str]:
        return dict(os.environ) | {"OS_KEYSTONE_CONFIG_FILES": str(self._config)}

    def is_ready(self) -> bool:
        try:
            with new_session() as session:
                return session.get(self.url, timeout=PROBE_TIMEOUT).status_code == 200
        except requests.RequestException:
            return False

    @functools.cached_property
    def admin(self) -> Connection:
        """The SDK as the admin of the cloud."""
        root = self.cloud(ROOT, self.admin_password, "admin")
        return openstack.connect(load_yaml_config=False, load_envvars=False, **root)

    def cloud(self, user: str, password: str, project: str) -> dict[str, Any]:
        """What a clouds.yaml says for a user in a project."""
        return {
            "auth_type": "password",
            "auth": {
                "auth_url": self.url, "username": user, "password": password, "project_name": project,
                "user_domain_id": DOMAIN, "project_domain_id": DOMAIN,
            },
            "region_name": REGION,
            "identity_api_version": "3",
        }

    def add_project(self, name: str) -> str:
        """Make a project; its id."""
        return str(self.admin.identity.create_project(name=name, domain_id=DOMAIN).id)

    def add_user(self, name: str, password: str, project: str, role: str | None) -> str:
        """Make a user with a role in a project (by its id), or with none; his id."""
        user = self.admin.identity.create_user(name=name, password=password, domain_id=DOMAIN, default_project=None)
        if role is not None:
            found = self.admin.identity.find_role(role) or self.admin.identity.create_role(name=role)
            self.admin.identity.assign_project_role_to_user(project, user, found)
        return str(user.id)

    def add_gateway(self, url: str) -> None:
        """Put the gateway into the catalogue, and make the user that it asks with."""
        service = self.admin.identity.create_service(type="messaging", name="marconi")
        for interface in ("public", "internal"):
            self.admin.identity.create_endpoint(
                service_id=service.id, url=url, interface=interface, region_id=REGION
            )
        self.add_user(SERVICE_USER, self.service_password, self.add_project(SERVICE_PROJECT), SERVICE_ROLE)

    def gateway_options(self, **more: object) -> Options:
        """The gateway's configuration."""
        return {
            "DEFAULT": {"auth_strategy": "keystone"},
            "keystone_authtoken": {
                "auth_type": "password", "auth_url": self.url, "www_authenticate_uri": self.url,
                "username": SERVICE_USER, "password": self.service_password, "project_name": SERVICE_PROJECT,
                "user_domain_id": DOMAIN, "project_domain_id": DOMAIN, "interface": "public",
                # A machine that runs other tests too may be slower than the gateway's own limit.
                "service_type": "messaging", "http_connect_timeout": int(TIMEOUT), **more,
            },
        }

    def token(self, user: str, password: str, project: str | None, **scope: Any) -> str:
        """A new token; without a project an unscoped one."""
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": user, "password": password, "domain": {"id": DOMAIN}}},
        }
        wanted: dict[str, Any] = {"identity": identity}
        wanted["scope"] = {"project": {"name": project, "domain": {"id": DOMAIN}}} if project else "unscoped"
        return self.issue(wanted)

    def issue(self, auth: dict[str, Any]) -> str:
        """A token for what `auth` of POST /v3/auth/tokens says."""
        with new_session() as session:
            answer = session.post(f"{self.url}/auth/tokens", json={"auth": auth}, timeout=TIMEOUT)
            answer.raise_for_status()
            return answer.headers["X-Subject-Token"]

    def revoke(self, token: str) -> None:
        """End a token before its time."""
        with new_session() as session:
            headers = {"X-Auth-Token": token, "X-Subject-Token": token}
            session.delete(f"{self.url}/auth/tokens", headers=headers, timeout=TIMEOUT).raise_for_status()


def _write_keys(folder: Path) -> None:
    """Two keys, as `keystone-manage fernet_setup` would write them; it takes seconds for that."""
    folder.mkdir(mode=0o700)
    for name in ("0", "1"):
        (folder / name).write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
        (folder / name).chmod(0o600)
