"""A server's app around a detector without a network."""

import contextlib
import time

import pytest

from tests.runtime.serving.fake_detector import FakeDetector
from tood_runtime.serving import ServingSettings, create_app


@pytest.fixture
def make_client():
    """Makes a client of an app: ``make_client(detector, queue_size=2)``."""
    testclient = pytest.importorskip("fastapi.testclient")
    pytest.importorskip("prometheus_client")
    with contextlib.ExitStack() as stack:

        def make(detector=None, is_ready=True, **settings):
            settings = {"batch_wait": 0.0, **settings}
            app = create_app(detector or FakeDetector(), ServingSettings(**settings))
            client = testclient.TestClient(app, client=("192.0.2.1", 50000))
            stack.enter_context(client)
            while is_ready and client.get("/healthz").status_code != 200:
                time.sleep(0.005)
            return client

        yield make


@pytest.fixture
def client(make_client):
    return make_client()
