"""Images by URL: at public addresses only."""

import pytest

from tests.runtime.http_server import http_server, send
from tests.runtime.remote.test_addresses import PRIVATE_URLS
from tests.runtime.serving.fake_detector import FakeDetector, as_json, encoded, image
from tests.runtime.serving.test_app import error_of
from tood_runtime.remote import connection


@pytest.fixture
def url_client(make_client):
    return make_client(allow_urls=True, url_timeout=5, max_body_bytes=5000)


@pytest.fixture
def as_public(monkeypatch):
    """The server of a test counts as one of the internet."""
    monkeypatch.setattr(connection, "is_public_address", lambda address: True)
    monkeypatch.setattr(connection, "_is_this_machine", lambda sock: False)


def ask(client, url, **headers):
    return client.post("/detect", json={"url": url}, headers=headers)


@pytest.mark.parametrize("url", PRIVATE_URLS)
def test_private_addresses(url_client, url):
    message = error_of(ask(url_client, url), 403)
    assert message.endswith("its address is not a public one.")


def test_a_server_on_this_machine_is_not_asked(url_client):
    requests = []

    def answer(request):
        requests.append(request.path)
        send(request, 200, encoded(image()))

    with http_server(answer) as server:
        error_of(ask(url_client, f"http://{server}/x.png"), 403)
    assert requests == []


def test_images(url_client, as_public):
    def answer(request):
        if request.path == "/large":
            send(request, 200, b"x" * 5001)
        elif request.path == "/text":
            send(request, 200, b"a secret text")
        elif request.path == "/image":
            send(request, 200, encoded(image(50)))
        else:
            send(request, 404)

    with http_server(answer) as server:
        content = ask(url_client, f"http://{server}/image").json()
        assert content["detections"] == as_json(FakeDetector()(image(50)))
        error_of(ask(url_client, f"http://{server}/large"), 413)
        assert "secret" not in error_of(ask(url_client, f"http://{server}/text"), 415)
        assert "404 Not Found" in error_of(ask(url_client, f"http://{server}/none"), 422)
    assert "refused" in error_of(ask(url_client, f"http://{server}/image"), 422)
    error_of(ask(url_client, "file:///etc/passwd"), 422)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"url": 3}', b'{"url": null}', b'{"uri": "http://a"}',
             b'{"url": "http://a", "more": 1}', b"[" * 10_000, b'"\xff"']
)  # fmt: skip
def test_other_json(url_client, body):
    response = url_client.post(
        "/detect", content=body, headers={"Content-Type": "application/json"}
    )
    error_of(response, 400)


def test_a_long_body(url_client):
    error_of(ask(url_client, "http://a/" + "a" * 20_000), 413)


def test_only_json_bodies_hold_urls(url_client):
    """A page of another origin can send other kinds without asking first."""
    body = b'{"url": "http://192.0.2.1/"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        error_of(url_client.post("/detect", content=body, headers={"Content-Type": kind}), 415)
