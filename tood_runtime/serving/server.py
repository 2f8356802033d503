"""Runs an app with uvicorn: on one socket, with timeouts for slow clients."""

import argparse
import ipaddress
import logging
import socket
from collections.abc import Sequence
from typing import Any

from ..image_detector import ImageDetector
from .app import create_app
from .errors import ServerError
from .packages import import_package
from .settings import ServingSettings

logger = logging.getLogger(__name__)

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
# Seconds in which a client has to send the headers of a request, to take a response, and in which
# requests in progress have to end when the server is stopped.
_HEADER_SECONDS, _WRITE_SECONDS, _SHUTDOWN_SECONDS = 10.0, 30.0, 30
_MOST_CONNECTIONS = 1000


def settings_of(args: argparse.Namespace, detector: ImageDetector[Any]) -> ServingSettings:
    """The limits that the command line names.

    Args:
        args: of :func:`tood_runtime.cli.serving_arguments.add_serving`.
        detector: knows the batch size of an exported file.

    Raises:
        ValueError: a limit out of range.
    """
    hosts = args.allowed_hosts
    if hosts is None and is_loopback(args.host):
        hosts = _LOOPBACK_NAMES
    return ServingSettings(
        options={
            "score_threshold": args.score_threshold,
            "classes": args.classes,
            "max_detections": args.max_detections,
        },
        batch_size=args.batch_size or detector.fixed_batch_size or 4,
        batch_wait=args.batch_wait / 1000,
        queue_size=args.queue_size,
        max_body_bytes=round(args.max_megabytes * 1e6),
        max_pixels=round(args.max_megapixels * 1e6),
        decode_threads=args.decode_threads,
        rate_limit=args.rate_limit,
        allow_urls=args.allow_urls,
        allowed_hosts=None if hosts is None else tuple(name.lower() for name in hosts),
        cors_origins=tuple(args.cors_origins),
    )


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach an address or host name."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    args: argparse.Namespace, detector: ImageDetector[Any], name: str, **model_info: object
) -> None:
    """Serve a detector until a signal stops the process.

    Args:
        args: see :func:`settings_of`.
        detector: the model.
        name: of the model, for people.
        model_info: see :func:`create_app`.

    Raises:
        ServerError: a limit is out of range, the address is in use or not one of this machine, or a
            package of the extra ``serve`` is not installed.
        ValueError: options that the model cannot have.
    """
    try:
        settings = settings_of(args, detector)
    except ValueError as error:
        raise ServerError(str(error)) from error
    app = create_app(detector, settings, model_info={"name": name, **model_info})
    server = make_server(app, settings.queue_size, args.trusted_proxies)
    with listen(args.host, args.port) as listener:
        host, number = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logger.info("Serving %s at http://%s:%d/ (Ctrl-C stops)", name, shown, number)
        if not is_loopback(host):
            logger.warning(
                "Everybody who can reach %s can use the model: the server has no passwords. Put it "
                "behind a proxy that has.",
                shown,
            )
        server.run(sockets=[listener])


def make_server(app: Any, queue_size: int, trusted_proxies: Sequence[str] = ()) -> Any:
    """Make uvicorn's server of an app.

    Args:
        app: of :func:`create_app`.
        queue_size: of its settings.
        trusted_proxies: addresses of proxies whose X-Forwarded-For names the client.

    Raises:
        MissingPackageError: uvicorn is not installed.
    """
    uvicorn = import_package("uvicorn")
    config = uvicorn.Config(
        app,
        http=_protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        limit_concurrency=_MOST_CONNECTIONS + queue_size,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Listen at an address.

    Raises:
        ServerError: the address is in use, or is not one of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServerError(
            f"Cannot listen at {host}, port {port}: {reason}. Choose another --host or --port."
        ) from error


def _protocol() -> type:
    """Uvicorn's HTTP protocol with timeouts for what it waits for without end."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class TimedProtocol(H11Protocol):
        """Cuts off clients that do not finish their headers, or do not take a response."""

        header_timer: Any = None
        write_timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch_headers()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self.header_timer, self.write_timer):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self.write_timer = self.loop.call_later(_WRITE_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.write_timer is not None:
                self.write_timer.cancel()

        def _watch_headers(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                if self.header_timer is not None:
                    self.header_timer.cancel()
                    self.header_timer = None
            elif self.header_timer is None:
                self.header_timer = self.loop.call_later(_HEADER_SECONDS, self._cut_off)

        def _cut_off(self) -> None:
            self.header_timer = None
            # Between two requests, uvicorn's own timeout counts.
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()

    return TimedProtocol
