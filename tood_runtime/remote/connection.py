"""Connections to HTTP servers: to checked addresses only, and cut off at a deadline."""

import base64
import contextlib
import functools
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .addresses import is_public_address

PORTS = {"http": 80, "https": 443}


class NotPublicError(OSError):
    """A host has an address that is not public."""


@dataclass(frozen=True)
class Target:
    """Where a request goes: ``host`` in ASCII, ``path`` with the query and percent-encoded."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """Host and port as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


@contextlib.contextmanager
def connected(
    target: Target, deadline: float, allow_private: bool
) -> Iterator[tuple[http.client.HTTPConnection, str, dict[str, str]]]:
    """Connect to a server.

    Args:
        target: what is to be requested.
        deadline: of :func:`time.monotonic`; the connection is cut off there.
        allow_private: whether the host may have addresses that are not public. Only then are the
            environment's proxies used.

    Returns:
        The connection, and the path and the headers to request.

    Raises:
        NotPublicError: the host has such an address.
        OSError: the server cannot be reached; a TimeoutError not before the deadline.
    """
    proxy = _proxy(target) if allow_private else None
    path, headers = target.path, {}
    if proxy is None:
        connection = _connect(target, deadline, allow_private)
    else:
        connection = _connect_through(proxy, target, deadline)
        if target.scheme == "http":
            path, headers = f"http://{target.netloc}{target.path}", _credentials(proxy)
    # A timeout of the socket counts for each read alone: a byte per second would go on for days.
    # Not the socket's own method: that of TLS changes what the reading thread uses.
    cut = threading.Timer(time_left(deadline), _shut_down, [connection.sock])
    cut.daemon = True
    cut.start()
    try:
        if isinstance(connection.sock, ssl.SSLSocket):
            connection.sock.do_handshake()
        yield connection, path, headers
        time_left(deadline)  # a file without a length ends silently where it is cut off
    finally:
        cut.cancel()
        connection.close()


def _shut_down(sock: Any) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _connect(target: Target, deadline: float, allow_private: bool) -> http.client.HTTPConnection:
    """Connect to one of the target's addresses, all of which have been checked."""
    addresses = _resolve(target, deadline)
    if not allow_private and not all(map(is_public_address, addresses)):
        raise NotPublicError("its address is not a public one")
    failure: OSError | None = None
    for address in addresses:
        try:
            sock = socket.create_connection((address, target.port), time_left(deadline))
        except OSError as error:
            failure = error
            continue
        try:
            if not allow_private and _is_this_machine(sock):
                raise NotPublicError("its address is not a public one")
            if target.scheme == "https":
                sock = _tls_context().wrap_socket(
                    sock, server_hostname=target.host, do_handshake_on_connect=False
                )
        except BaseException:
            sock.close()
            raise
        connection = http.client.HTTPConnection(
            target.host, target.port, timeout=time_left(deadline)
        )
        connection.sock = sock
        return connection
    raise failure or OSError("its host has no address")


def _is_this_machine(sock: socket.socket) -> bool:
    """Whether a connection ends here: this machine may have a public address too."""
    return bool(sock.getpeername()[0] == sock.getsockname()[0])


@functools.cache
def _tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _resolve(target: Target, deadline: float) -> list[str]:
    """The addresses of a host, each once."""
    found: list[list[str]] = []
    failure: list[OSError | UnicodeError] = []

    def resolve() -> None:
        try:
            answers = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            found.append(list(dict.fromkeys(str(answer[4][0]) for answer in answers)))
        except (OSError, UnicodeError) as error:
            failure.append(error)

    # In a thread, because a resolver has its own timeouts, which can be minutes.
    thread = threading.Thread(target=resolve, name="resolve", daemon=True)
    thread.start()
    thread.join(time_left(deadline))
    if failure:
        raise OSError(f"its host {target.host} is unknown") from failure[0]
    if not found:
        raise TimeoutError
    return found[0]


def _proxy(target: Target) -> SplitResult | None:
    proxy = getproxies().get(target.scheme)
    if not proxy or proxy_bypass(target.netloc):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _connect_through(
    proxy: SplitResult, target: Target, deadline: float
) -> http.client.HTTPConnection:
    if proxy.scheme != "http" or not proxy.hostname:
        raise OSError(f"the proxy {proxy.scheme}://{proxy.hostname or ''} is not HTTP")
    make = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = make(proxy.hostname, proxy.port or 80, timeout=time_left(deadline))
    if target.scheme == "https":
        connection.set_tunnel(target.host, target.port, _credentials(proxy))
    connection.connect()
    return connection


def _credentials(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def time_left(deadline: float) -> float:
    """Seconds until the deadline; raises a TimeoutError after it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
