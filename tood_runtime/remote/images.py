"""Image files over HTTP: limited in size and time, and on request from public addresses only.

A server that fetches what its clients name can be used to reach what only the server can reach. So
with ``allow_private=False`` every address of a host is checked, the connection goes to a checked
address rather than to the name (which could resolve to another one by then), and each redirect is
checked likewise.
"""

import http.client
import ssl
import time
from urllib.parse import quote, urljoin, urlsplit

from ..image_io import ImageReadError
from .connection import PORTS, NotPublicError, Target, connected

_REDIRECTS = {301, 302, 303, 307, 308}
_PLAYLISTS = ("application/vnd.apple.mpegurl", "application/x-mpegurl", "application/dash+xml")
_MAX_REDIRECTS = 5
_CHUNK = 1 << 16


class RemoteImageError(ImageReadError):
    """An image that cannot be fetched; the message names its URL."""


class BlockedAddressError(RemoteImageError):
    """The URL, or one that it redirects to, is not at a public address."""


class RemoteVideoError(RemoteImageError):
    """The URL is that of a video or a stream."""


class RemoteImageTooLargeError(RemoteImageError):
    """The file is larger than the limit."""


def fetch_image_bytes(
    url: str, *, max_bytes: int = 100 << 20, timeout: float = 30, allow_private: bool = False
) -> bytes:
    """Fetch an image file. Follows at most five redirects.

    Proxies of the environment (``http_proxy``, ``https_proxy``, ``no_proxy``) are used only with
    ``allow_private``: a proxy resolves host names itself, and may reach private addresses.

    Args:
        url: http or https, without user name and password.
        max_bytes: size of the file, at most.
        timeout: seconds for everything together: names, connections, redirects and the file.
        allow_private: also fetch from this machine and from private networks. Only for URLs that
            the person who runs the program has chosen.

    Returns:
        The bytes of the file. They may be anything.

    Raises:
        BlockedAddressError: a host has an address that is not public, and ``allow_private`` is
            false.
        RemoteImageTooLargeError: the file has more than ``max_bytes``.
        RemoteVideoError: it is a video, as its server says.
        RemoteImageError: the URL is none, or the server cannot be reached, answers with an error,
            or takes too long.
    """
    deadline = time.monotonic() + timeout
    try:
        current = url
        for _ in range(_MAX_REDIRECTS + 1):
            target = _parse(current)
            with connected(target, deadline, allow_private) as (connection, path, headers):
                answer = _request(connection, target, path, headers, max_bytes)
            if isinstance(answer, bytes):
                return answer
            current = urljoin(current, answer)
        raise RemoteImageError(f"it redirects more than {_MAX_REDIRECTS} times")
    except RemoteImageError as error:
        raise type(error)(f"Cannot fetch {_shown(url)}: {error}.") from error
    except NotPublicError as error:
        raise BlockedAddressError(f"Cannot fetch {_shown(url)}: {error}.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = "it takes too long" if time.monotonic() >= deadline else _reason(error)
        raise RemoteImageError(f"Cannot fetch {_shown(url)}: {reason}.") from error


def _parse(url: str) -> Target:
    """Split a URL, or raise a RemoteImageError."""
    try:
        parts = urlsplit(url)
        scheme, port = parts.scheme.lower(), parts.port
        host = (parts.hostname or "").rstrip(".")
        host = host if ":" in host else host.encode("idna").decode("ascii")
        path = quote(parts.path or "/", safe="%/:=&~+!$,;'@()*[]")
        query = quote(parts.query, safe="%/:=&?~+!$,;'@()*[]")
    except ValueError as error:  # among them UnicodeError
        raise RemoteImageError("it is not a valid URL") from error
    if scheme not in PORTS:
        raise RemoteImageError("only http and https URLs are fetched")
    if not host or port == 0:
        raise RemoteImageError("it is not a valid URL")
    if parts.username is not None or parts.password is not None:
        raise RemoteImageError("URLs with a user name or password are not fetched")
    path = path if path.startswith("/") else f"/{path}"
    return Target(scheme, host, port or PORTS[scheme], f"{path}?{query}" if query else path)


def _request(
    connection: http.client.HTTPConnection,
    target: Target,
    path: str,
    headers: dict[str, str],
    max_bytes: int,
) -> bytes | str:
    """The file, or the URL that the server redirects to."""
    headers = {"Host": target.netloc, "User-Agent": "tood", "Accept": "image/*", **headers}
    connection.request("GET", path, headers={**headers, "Connection": "close"})
    with connection.getresponse() as response:
        location = response.headers.get("Location")
        if response.status in _REDIRECTS and location:
            return location
        if response.status != 200:
            status = f"{response.status} {response.reason}".strip()
            raise RemoteImageError(f"the server answers {status}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RemoteImageError("the server sends it compressed, though asked not to")
        kind = response.headers.get_content_type().lower()
        if kind.startswith(("video/", "multipart/x-mixed-replace")) or kind in _PLAYLISTS:
            raise RemoteVideoError(f"it is a video ({kind}) and no image")
        return _read(response, max_bytes)


def _read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    expected = response.length
    too_large = f"it has more than {max_bytes} bytes"
    if expected is not None and expected > max_bytes:
        raise RemoteImageTooLargeError(too_large)
    data = bytearray()
    while chunk := response.read1(_CHUNK):
        data += chunk
        if len(data) > max_bytes:
            raise RemoteImageTooLargeError(too_large)
    if expected is not None and len(data) < expected:
        raise RemoteImageError("the connection broke off")
    return bytes(data)


def _shown(url: str) -> str:
    text = url.encode("ascii", "backslashreplace").decode("ascii")
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "it takes too long"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
