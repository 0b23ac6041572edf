"""A thin HTTP client: it speaks for one project and one Client-ID, and knows nothing of the API otherwise."""

import uuid
from typing import Any

import requests
from requests.adapters import HTTPAdapter

#: Seconds that a test waits for an answer; the gateway must have given up on its dependencies long before.
TIMEOUT = 60.0

#: Connections kept open: as many as a test may have threads that call at once.
POOL_SIZE = 64


def new_session() -> requests.Session:
    """A connection pool that ignores proxies and credentials of the environment."""
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_maxsize=POOL_SIZE))
    return session


class Api:
    """Calls to the gateway at `url`. Paths are whole ones, as in its links: `/v2/queues/…`.

    A header given as None is left out, the usual ones (Client-ID, X-Project-ID, Accept) too.
    """

    def __init__(
        self,
        url: str,
        project: str | None = None,
        client_id: str | None = None,
        session: requests.Session | None = None,
    ) -> None:
        self.url = url
        self.project = project or f"project-{uuid.uuid4().hex}"
        self.client_id = client_id or str(uuid.uuid4())
        self._session = session or new_session()

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """One call; `arguments` are those of requests (json, data, params, headers, timeout)."""
        usual = {
            "Client-ID": self.client_id,
            "X-Project-ID": self.project,
            "Accept": "application/json",
        }
        given = arguments.pop("headers", {})
        replaced = {name.lower() for name in given}
        headers = {name: value for name, value in usual.items() if name.lower() not in replaced} | given
        arguments = {"timeout": TIMEOUT, "allow_redirects": False} | arguments
        return self._session.request(method, self.url + path, headers=headers, **arguments)

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("GET", path, **arguments)

    def head(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("HEAD", path, **arguments)

    def put(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("PUT", path, **arguments)

    def post(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("POST", path, **arguments)

    def patch(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("PATCH", path, **arguments)

    def delete(self, path: str, **arguments: Any) -> requests.Response:
        return self.request("DELETE", path, **arguments)

    def as_client(self, client_id: str) -> "Api":
        """The same project under another Client-ID."""
        return Api(self.url, self.project, client_id, self._session)

    def other_client(self) -> "Api":
        """The same project under a fresh Client-ID."""
        return self.as_client(str(uuid.uuid4()))

    def other_project(self) -> "Api":
        """A fresh project."""
        return Api(self.url, session=self._session)

    def at(self, url: str) -> "Api":
        """The same project and Client-ID at another gateway."""
        return Api(url, self.project, self.client_id, self._session)

    def close(self) -> None:
        """Close the connections, also those of the copies made from this one."""
        self._session.close()
