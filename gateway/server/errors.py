"""Errors that the server answers by itself, without the application: those that waitress has no class for."""

from __future__ import annotations

from waitress.utilities import Error


class RequestTimeout(Error):
    """The rest of the request did not come in time."""

    code = 408
    reason = "Request Timeout"


class URITooLong(Error):
    """The request line is longer than the server reads."""

    code = 414
    reason = "URI Too Long"


class ExpectationFailed(Error):
    """The Expect header asks for something other than 100-continue."""

    code = 417
    reason = "Expectation Failed"


class ServiceUnavailable(Error):
    """There are more requests than the threads can serve. Nothing of this request has been done."""

    code = 503
    reason = "Service Unavailable"


class VersionNotSupported(Error):
    """The request is neither HTTP/1.0 nor HTTP/1.1."""

    code = 505
    reason = "HTTP Version Not Supported"
