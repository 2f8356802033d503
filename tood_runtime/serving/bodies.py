"""Receiving the body of a request within limits of size and time, and the image in it."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from .errors import ClientGoneError, OverloadedError, RequestError
from .packages import import_package

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]

_HOW_TO_SEND = (
    "Send an image file, as the body with its Content-Type (image/jpeg) or as a file of a "
    "multipart/form-data form"
)
# Of a JSON body, which holds a URL.
_MAX_JSON_BYTES = 16_384
# Boundaries and headers around the file of a form.
_FORM_BYTES = 8_192


class ByteBudget:
    """A limit on the bytes that all requests together hold in memory.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self._left = total

    @contextlib.contextmanager
    def lease(self) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes, which are given back at the end.

        It raises an OverloadedError where not so many are left.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if size > self._left:
                raise OverloadedError("The server holds too much data of other requests.")
            taken += size
            self._left -= size

        try:
            yield take
        finally:
            self._left += taken


class RequestBody:
    """The body of a request that is still being received.

    Args:
        receive: of ASGI.
        headers: names in lower case.
        max_bytes: of an image.
        timeout: seconds in which the whole body has to come.
        take: of a lease on memory; called for what is received.
    """

    def __init__(
        self,
        receive: Receive,
        headers: Mapping[str, str],
        *,
        max_bytes: int,
        timeout: float,
        take: Callable[[int], None],
    ) -> None:
        self._receive = receive
        self._headers = headers
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._take = take
        content_type, _, rest = headers.get("content-type", "").partition(";")
        self.content_type = content_type.strip().lower()
        self._parameters = rest

    async def image(self) -> bytes:
        """The file of the image, not decoded.

        Raises:
            RequestError: it is too large or too slow, or there is none.
            ClientGoneError: the client has closed the connection.
        """
        if self.content_type == "multipart/form-data":
            body = await self._read(self._max_bytes + _FORM_BYTES)
            data = _file_of_form(body, self._headers["content-type"])
            if len(data) > self._max_bytes:
                raise _too_large(self._max_bytes)
        elif self.content_type.startswith("image/") or self.content_type in (
            "application/octet-stream",
            "binary/octet-stream",
        ):
            data = await self._read(self._max_bytes)
        else:
            raise RequestError(
                415, f"The Content-Type is {self.content_type or 'missing'!r}. {_HOW_TO_SEND}."
            )
        if not data:
            raise RequestError(400, f"The image is empty: it has 0 bytes. {_HOW_TO_SEND}.")
        return data

    async def url(self) -> str:
        """The URL in a body like ``{"url": "https://example.com/image.jpg"}``.

        Raises:
            RequestError: there is none.
            ClientGoneError: the client has closed the connection.
        """
        body = await self._read(_MAX_JSON_BYTES)
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or list(content) != ["url"]:
            raise RequestError(400, 'The body is not {"url": "https://..."} in JSON.')
        if not isinstance(content["url"], str):
            raise RequestError(400, '"url" is not a string.')
        return content["url"]

    async def _read(self, max_bytes: int) -> bytes:
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length) > max_bytes:
            raise _too_large(max_bytes)
        try:
            return await asyncio.wait_for(self._read_all(max_bytes), self._timeout)
        except (TimeoutError, asyncio.TimeoutError) as error:  # two classes before Python 3.11
            raise RequestError(
                408, f"The body did not come within {self._timeout:g} seconds."
            ) from error

    async def _read_all(self, max_bytes: int) -> bytes:
        data = bytearray()
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGoneError
            chunk = message.get("body", b"")
            if len(data) + len(chunk) > max_bytes:
                raise _too_large(max_bytes)
            self._take(len(chunk))
            data += chunk
            if not message.get("more_body", False):
                return bytes(data)


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(413, f"The request has more than {max_bytes:,} bytes.")


def _file_of_form(body: bytes, content_type: str) -> bytes:
    """The file of a multipart form that has nothing else."""
    multipart = import_package("python_multipart.multipart")
    _, parameters = multipart.parse_options_header(content_type)
    part = _Part(multipart.parse_options_header)
    callbacks = {
        "on_part_begin": part.begin,
        "on_header_field": part.add_to_name,
        "on_header_value": part.add_to_value,
        "on_header_end": part.end_header,
        "on_part_data": part.add_data,
    }
    try:
        parser = multipart.MultipartParser(parameters[b"boundary"], callbacks)
        parser.write(body)
        parser.finalize()
    except (KeyError, ValueError) as error:  # the parser's errors are ValueErrors
        raise RequestError(400, f"The form is damaged. {_HOW_TO_SEND}.") from error
    if not part.is_file:
        raise RequestError(400, f"The form has no file. {_HOW_TO_SEND}.")
    return bytes(part.data)


class _Part:
    """The only part of a form. More of them are refused at once, because each takes time."""

    def __init__(self, parse_options: Callable[[bytes], tuple[bytes, dict[bytes, bytes]]]) -> None:
        self._parse_options = parse_options
        self._count = 0
        self._header_size = 0
        self._name, self._value = bytearray(), bytearray()
        self.is_file = False
        self.data = bytearray()

    def begin(self) -> None:
        self._count += 1
        if self._count > 1:
            raise RequestError(
                400,
                "The form has more than the file. Send one image at a time, and options in the "
                "query of the URL.",
            )

    def add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._name += self._of_header(data, start, end)

    def add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._of_header(data, start, end)

    def _of_header(self, data: bytes, start: int, end: int) -> bytes:
        self._header_size += end - start
        if self._header_size > _FORM_BYTES:
            raise ValueError("too long")
        return data[start:end]

    def end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = self._parse_options(bytes(self._value))
            self.is_file = b"filename" in options
        self._name.clear()
        self._value.clear()

    def add_data(self, data: bytes, start: int, end: int) -> None:
        self.data += data[start:end]
