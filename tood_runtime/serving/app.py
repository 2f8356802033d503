"""The endpoints of the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from ..image_detector import ImageDetector
from .bodies import Receive, RequestBody
from .errors import ClientGoneError, RequestError
from .guard import DETECT, Guard
from .packages import import_package
from .service import Answer, DetectionService
from .settings import ServingSettings

STATIC = Path(__file__).with_name("static")
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_OPTIONS = ("score_threshold", "classes", "max_detections", "format")
# What FastAPI cannot know, because the body is received piece by piece.
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {"type": "object", "properties": {"url": {"type": "string"}}}
        },
    },
}

Result = TypeVar("Result")


def create_app(
    detector: ImageDetector[Any],
    settings: ServingSettings | None = None,
    *,
    model_info: Mapping[str, object] | None = None,
) -> Any:
    """Make the app of a detector.

    Args:
        detector: the model. One thread runs it; others resize images with it.
        settings: the limits; by default those of :class:`ServingSettings`.
        model_info: more fields of ``/model``, such as sizes of the input.

    Returns:
        A FastAPI app, for uvicorn with ``http="h11"``. Run one process: each holds a model, a queue
        and metrics of its own.

    Raises:
        MissingPackageError: a package of the extra ``serve`` is not installed.
        ValueError: options that the model cannot have.
    """
    fastapi = import_package("fastapi")
    settings = settings or ServingSettings()
    service = DetectionService(detector, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.stop)

    app = fastapi.FastAPI(
        title="TOOD",
        lifespan=lifespan,
        docs_url=None,  # those pages load scripts from other servers
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_detect(app, service)
    _add_state(app, service, model_info or {})
    _add_page(app)
    _add_errors(app)
    endpoints = frozenset(route.path for route in app.routes)
    app.add_middleware(Guard, settings=settings, metrics=service.metrics, endpoints=endpoints)
    if settings.cors_origins:
        cors = import_package("fastapi.middleware.cors")
        app.add_middleware(
            cors.CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["GET", "POST"]
        )
    return app


def _add_detect(app: Any, service: DetectionService) -> None:
    from fastapi import Query, Request, Response  # FastAPI reads the annotations below
    from fastapi.responses import JSONResponse

    @app.post(DETECT, summary="Detect objects in an image", openapi_extra={"requestBody": _BODY})
    async def detect(
        request: Request,
        score_threshold: Annotated[float | None, Query(ge=0, le=1)] = None,
        classes: Annotated[list[str] | None, Query()] = None,
        max_detections: Annotated[int | None, Query(ge=1)] = None,
        format: Literal["json", "jpeg", "png"] = "json",
    ) -> Response:
        _require_known(request.query_params)
        given = {
            "score_threshold": score_threshold,
            "classes": classes,
            "max_detections": max_detections,
        }
        try:
            options = service.validate_options({k: v for k, v in given.items() if v is not None})
        except ValueError as error:
            raise RequestError(422, str(error)) from error
        with service.admit(), service.budget.lease() as take:
            data = await _receive_image(service, request.receive, request.headers, take)

            async def answer() -> tuple[Answer, bytes | None]:
                found = await service.detect(data, options)
                if format == "json":
                    return found, None
                return found, await service.draw(data, found.found, f".{format}")

            result, drawing = await _unless_gone(answer(), request.receive)
            if drawing is not None:
                return Response(drawing, media_type=f"image/{format}")
            if result.found.mask is None:
                return JSONResponse(_to_json(result))
            # Masks of a large image take longer than other requests should wait for the event loop.
            return JSONResponse(await asyncio.to_thread(_to_json, result))


async def _receive_image(
    service: DetectionService, receive: Receive, headers: Mapping[str, str], take: Any
) -> bytes:
    """The image file of a request, from its body or from the URL there."""
    settings = service.settings
    body = RequestBody(
        receive,
        headers,
        max_bytes=settings.max_body_bytes,
        timeout=settings.body_timeout,
        take=take,
    )
    if body.content_type != "application/json":
        return await body.image()
    if not settings.allow_urls:
        raise RequestError(415, "Images by URL are switched off. Send the image file.")
    url = await body.url()
    take(settings.max_body_bytes)
    return await _unless_gone(service.fetch(url), receive)


async def _unless_gone(work: Awaitable[Result], receive: Receive) -> Result:
    """Wait for a result, or cancel it when the client closes the connection.

    Raises:
        ClientGoneError: the client has done so.
    """

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        task.cancel()
        watch.cancel()


def _require_known(query: Mapping[str, str]) -> None:
    for name in query:
        if name not in _OPTIONS:
            raise RequestError(422, f"Unknown option {name!r}. Available: {', '.join(_OPTIONS)}.")


def _to_json(answer: Answer) -> dict[str, Any]:
    found = answer.found
    height, width = found.image_size
    rows = zip(
        found.xyxy.tolist(),
        found.confidence.tolist(),
        found.class_id.tolist(),
        found.class_names,
        strict=True,
    )
    detections: list[dict[str, Any]] = [
        {
            "box": [round(value, 3) for value in box],
            "score": round(score, 6),
            "class_id": class_id,
            "class_name": name,
        }
        for box, score, class_id, name in rows
    ]
    if found.mask is not None:
        for detection, segmentation in zip(detections, found.mask.to_coco(), strict=True):
            detection["segmentation"] = segmentation
    return {
        "image": {"width": width, "height": height},
        "detections": detections,
        "milliseconds": answer.milliseconds,
        "batch_size": answer.batch_size,
    }


def _add_state(app: Any, service: DetectionService, model_info: Mapping[str, object]) -> None:
    from fastapi import Response
    from fastapi.responses import JSONResponse

    @app.get("/healthz", summary="Whether requests are answered")
    async def healthz() -> Response:
        is_ready, state = service.state()
        return JSONResponse({"status": state}, status_code=200 if is_ready else 503)

    @app.get("/metrics", summary="Numbers for Prometheus")
    async def metrics() -> Response:
        text, media_type = service.metrics.text()
        return Response(text, media_type=media_type)

    @app.get("/model", summary="Classes, options and limits")
    async def model() -> dict[str, Any]:
        settings = service.settings
        return {
            "class_names": service.detector.class_names,
            "lowest_threshold": service.lowest_threshold,
            "options": dict(settings.options),
            "max_body_bytes": settings.max_body_bytes,
            "max_pixels": settings.max_pixels,
            "allow_urls": settings.allow_urls,
            "apply_orientation": service.detector.apply_orientation,
            **model_info,
        }


def _add_page(app: Any) -> None:
    from fastapi import Response

    def add(path: str, file: Path) -> None:
        content, media_type = file.read_bytes(), _MEDIA_TYPES[file.suffix]

        @app.get(path, include_in_schema=False)
        async def page() -> Response:
            return Response(content, media_type=media_type)

    add("/", STATIC / "index.html")
    for file in sorted(STATIC.iterdir()):
        if file.suffix in _MEDIA_TYPES and file.name != "index.html":
            add(f"/{file.name}", file)


def _add_errors(app: Any) -> None:
    """FastAPI's own errors become those of the guard."""
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> None:
        raise RequestError(error.status_code, f"{error.detail}.", error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_options(request: Request, error: RequestValidationError) -> None:
        first = error.errors()[0]
        raise RequestError(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}.")
