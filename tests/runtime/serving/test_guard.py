"""Who may use a server, and what errors look like."""

import pytest

from tests.runtime.serving.fake_detector import FakeDetector, encoded, image
from tests.runtime.serving.test_app import detect, error_of
from tood_runtime.serving.rate_limit import RateLimit
from tood_runtime.serving.server import is_loopback


def test_hosts(make_client):
    client = make_client(
        is_ready=False, allowed_hosts=("localhost", "127.0.0.1", "::1", "my.example")
    )
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:80", "my.example."):
        assert client.get("/model", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "localhost.evil.example", "127.0.0.2", "[::2]:80", ""):
        assert error_of(client.get("/model", headers={"Host": host}), 421).endswith(
            "start the server with --allowed-hosts."
        )


def test_pages_of_other_origins(make_client):
    client = make_client()
    data = encoded(image())
    same = {"Origin": "http://testserver", "Host": "testserver"}
    response = detect(client, data, **same)
    assert response.status_code == 200 and "access-control-allow-origin" not in response.headers
    for origin in ("http://evil.example", "null", "http://testserver.evil.example"):
        assert "--cors-origins" in error_of(detect(client, data, Origin=origin), 403)
    assert "access-control-allow-origin" not in client.options("/detect", headers=same).headers


@pytest.mark.parametrize("allowed", ["https://app.example", "*"])
def test_origins_that_are_allowed(make_client, allowed):
    client = make_client(cors_origins=(allowed,))
    origin = {"Origin": "https://app.example"}
    asked = client.options("/detect", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert asked.headers["access-control-allow-origin"] == allowed
    for data, status in ((encoded(image()), 200), (b"x", 415)):
        response = detect(client, data, **origin)
        assert response.status_code == status
        assert response.headers["access-control-allow-origin"] == allowed
    if allowed != "*":
        error_of(detect(client, encoded(image()), Origin="https://evil.example"), 403)


def test_rate_limit(make_client):
    client = make_client(rate_limit=2)
    data = encoded(image())
    assert [detect(client, data).status_code for _ in range(3)] == [200, 200, 429]
    response = detect(client, data)
    assert "Send them more slowly" in error_of(response, 429)
    assert response.headers["retry-after"] == "1"
    assert client.get("/healthz").status_code == 200  # only detection costs much


def test_rate_limit_of_each_client():
    now = 100.0
    limit = RateLimit(0.5, clock=lambda: now)
    assert limit.seconds_to_wait("192.0.2.1") == 0
    assert limit.seconds_to_wait("192.0.2.1") == 2
    assert limit.seconds_to_wait("::ffff:192.0.2.1") == 2
    assert limit.seconds_to_wait("192.0.2.2") == 0
    assert limit.seconds_to_wait("2001:db8::1") == 0
    assert limit.seconds_to_wait("2001:db8::2") == 2  # of the same network
    assert limit.seconds_to_wait("2001:db8:0:1::2") == 0
    assert limit.seconds_to_wait("a name") == 0
    now += 2
    assert limit.seconds_to_wait("192.0.2.1") == 0
    for i in range(30_000):
        limit.seconds_to_wait(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
    assert len(limit._buckets) == 10_000


def test_errors_of_the_model_have_no_details(make_client, caplog):
    client = make_client()
    bad = encoded(image(6))
    assert error_of(detect(client, bad), 500) == "The server failed. Its log says why."
    assert "out of memory" in caplog.text
    assert detect(client, encoded(image())).status_code == 200
    metrics = client.get("/metrics").text
    assert 'tood_requests_total{endpoint="/detect",status="500"} 1.0' in metrics


def test_health_follows_the_model(make_client):
    detector = FakeDetector()
    detector.is_broken = True
    client = make_client(detector, is_ready=False)
    for _ in range(3):
        error_of(detect(client, encoded(image())), 500)
    response = client.get("/healthz")
    assert response.status_code == 503
    assert response.json() == {"status": "The model fails. The log says why."}
    detector.is_broken = False
    for _ in range(100):  # it tries by itself
        if client.get("/healthz").status_code == 200:
            break
    assert client.get("/healthz").json() == {"status": "ready"}


def test_ready_when_the_model_has_run(make_client):
    client = make_client(FakeDetector(seconds=0.3), is_ready=False)
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (503, {"status": "warming up"})
    assert detect(client, encoded(image())).status_code == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("LocalHost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("localhost.example", False),
    ],
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected
