"""What every request passes first: host, origin, rate; and how errors become responses."""

import asyncio
import contextlib
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from .bodies import Message, Receive
from .errors import ClientGoneError, RequestError
from .metrics import Metrics
from .rate_limit import RateLimit
from .settings import ServingSettings

logger = logging.getLogger(__name__)

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: The only endpoint that costs much.
DETECT = "/detect"
# Of nginx: the client has closed the connection.
_CLIENT_GONE = 499
# How much of a refused body is still received, so that the client reads the response: it is lost
# where the connection is closed while data comes.
_DRAIN_SECONDS, _DRAIN_BYTES = 2.0, 64_000_000

_HEADERS = {
    # The page uses its own files alone, and what it shows is in blobs.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
_ENCODED_HEADERS = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]


class Guard:
    """ASGI middleware: refuses requests, counts them, and turns errors into JSON.

    Args:
        app: the app behind it.
        settings: the limits.
        metrics: what requests are counted in.
        endpoints: paths that are counted by name; others are counted together.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        settings: ServingSettings,
        metrics: Metrics,
        endpoints: frozenset[str],
    ) -> None:
        self._app = app
        self._hosts = settings.allowed_hosts
        self._origins = settings.cors_origins
        self._rate = None if settings.rate_limit is None else RateLimit(settings.rate_limit)
        self._metrics = metrics
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 0
        body = _Body(receive)

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_ENCODED_HEADERS]
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, body.receive, send_noted)
        except RequestError as error:
            _forget_locals(error)
            await _refuse(error, scope, body, send_noted)
        except ClientGoneError as error:
            _forget_locals(error)
            status = _CLIENT_GONE
            # Nobody gets this, but the server wants a response to every request.
            await _refuse(RequestError(_CLIENT_GONE, "The client has gone."), scope, body, send)
        except Exception as error:
            logger.exception("Request failed")
            if status:
                raise  # the response has started, so the connection can be closed at most
            _forget_locals(error)
            failure = RequestError(500, "The server failed. Its log says why.")
            await _refuse(failure, scope, body, send_noted)
        finally:
            endpoint = scope["path"] if scope["path"] in self._endpoints else "other"
            self._metrics.count_request(endpoint, status or 500, time.monotonic() - start)

    def _check(self, scope: Scope) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self._hosts is not None and _without_port(host) not in self._hosts:
            raise RequestError(
                421,
                f"The server does not answer to the host name {host!r}. To allow it, start the "
                "server with --allowed-hosts.",
            )
        origin = headers.get(b"origin")
        if origin is not None and not self._allows(origin, host):
            raise RequestError(
                403, "Pages of other origins may not use the server, unless --cors-origins says so."
            )
        if self._rate is not None and scope["path"] == DETECT:
            client = scope["client"][0] if scope.get("client") else ""
            if wait := self._rate.seconds_to_wait(client):
                raise RequestError(
                    429, "Too many requests. Send them more slowly.", {"Retry-After": str(wait)}
                )

    def _allows(self, origin: str, host: str) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        return urlsplit(origin).netloc.lower() == host.lower()


def _forget_locals(error: BaseException | None) -> None:
    """Free what the functions that an error has gone through have held, such as the body.

    Tasks and their errors refer to each other, so it would stay until the next garbage collection.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _without_port(host: str) -> str:
    name = host.lower()
    if name.startswith("["):  # an IPv6 address
        return name.partition("]")[0][1:]
    return name.partition(":")[0].rstrip(".")


class _Body:
    """What a client sends, and whether that was all."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.is_complete = self.is_complete or not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        received = 0
        while not self.is_complete and received < _DRAIN_BYTES:
            received += len((await self.receive()).get("body", b""))


async def _refuse(error: RequestError, scope: Scope, body: _Body, send: Send) -> None:
    """Send an error, and receive what the client is still sending for a while."""
    # A client that has asked sends nothing after an error.
    asks_first = any(name == b"expect" for name, _ in scope["headers"])
    await _send_error(error, send, closes=not body.is_complete)
    if not body.is_complete and not asks_first:
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):  # two before Python 3.11
            await asyncio.wait_for(body.drain(), _DRAIN_SECONDS)
    await send({"type": "http.response.body", "body": b""})


async def _send_error(error: RequestError, send: Send, closes: bool) -> None:
    """Send all of a response but its end."""
    body = json.dumps({"error": str(error)}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **({"connection": "close"} if closes else {}),
        **error.headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": True})
