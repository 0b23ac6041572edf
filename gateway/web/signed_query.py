"""Pre-signed requests that say in the query what others say in headers: a browser's EventSource can't send any."""

from __future__ import annotations

from typing import Any

from gateway.web.call import parse_args

#: Parameters, and the headers that they stand for in the WSGI environment.
HEADERS = {
    "url_signature": "HTTP_URL_SIGNATURE",
    "url_expires": "HTTP_URL_EXPIRES",
    "url_methods": "HTTP_URL_METHODS",
    "url_paths": "HTTP_URL_PATHS",
    "project_id": "HTTP_X_PROJECT_ID",
    "client_id": "HTTP_CLIENT_ID",
}

#: How a query looks that is worth reading.
SIGNED = "url_signature="


def read_signed_query(environ: dict[str, Any]) -> None:
    """Put into the environment what a pre-signed request says in its query.

    A query without a signature changes nothing. With one, all of HEADERS but the client are as the query has them,
    whatever the headers say: a signature is for all of it together.
    """
    if SIGNED not in environ.get("QUERY_STRING", ""):
        return
    args = parse_args(environ["QUERY_STRING"])
    if "url_signature" not in args:
        return
    for parameter, header in HEADERS.items():
        if parameter != "client_id" or parameter in args:
            environ[header] = args.get(parameter, "")
