# Serves an exported model over HTTP, without PyTorch.
#
#   tood export output/mine --output model.onnx
#   docker build -f docker/serve.Dockerfile -t tood-serve .
#   docker run --rm --read-only -p 127.0.0.1:8000:8000 -v "$PWD/model.onnx:/model.onnx:ro" tood-serve
#
# Arguments after the image's name go to the server: tood-serve --rate-limit 10

FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
# The package without its requirements, which are for training; only tood_runtime is used.
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# onnxruntime: change it to openvino to run .xml files.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-compile \
        "fastapi>=0.116" "prometheus-client>=0.20" "python-multipart>=0.0.18" "uvicorn>=0.30" \
        "numpy>=1.26" "Pillow>=11.0" "onnxruntime>=1.25" \
    && python -m pip install --no-cache-dir --no-compile --no-deps /wheels/*.whl \
    && useradd --system --no-create-home tood
USER tood
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
# Answers with 200 when the model has run once, and with 503 where it fails.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# All addresses, because those of a container are its own; -p says who can reach them.
ENTRYPOINT ["python", "-m", "tood_runtime.serving", "/model.onnx", "--host", "0.0.0.0"]
