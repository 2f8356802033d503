"""Why a server does not start, and why a request gets no detections."""

from collections.abc import Mapping


class ServerError(Exception):
    """A server that cannot start; the message says why, and what to do."""


class RequestError(Exception):
    """A request that is refused.

    Args:
        status: the HTTP status code.
        message: one sentence for the client.
        headers: more headers of the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class OverloadedError(RequestError):
    """The server has too much to do at the moment."""

    def __init__(self, message: str) -> None:
        super().__init__(503, message, {"Retry-After": "1"})


class ClientGoneError(Exception):
    """The client has closed the connection, so nobody waits for a response."""
