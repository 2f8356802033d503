"""Fetching images: limits, redirects, proxies, and addresses that a server must not fetch from."""

import socket
import ssl
import time

import pytest

from tests.runtime.http_server import http_server, make_certificate, send
from tests.runtime.remote.test_addresses import PRIVATE_URLS
from tood_runtime.image_io import ImageReadError
from tood_runtime.remote import connection
from tood_runtime.remote.images import (
    BlockedAddressError,
    RemoteImageError,
    RemoteImageTooLargeError,
    fetch_image_bytes,
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def public_hosts(monkeypatch):
    """Host names with addresses of the internet, whose connections end at a local server."""
    addresses: dict[str, list[str]] = {}
    connections: list[str] = []
    real_connect, real_resolve = socket.create_connection, socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        answers = [real_resolve(ip, *args, **kwargs) for ip in addresses.get(host, [host])]
        return [answer for found in answers for answer in found]

    def connect(address, timeout, **kwargs):
        connections.append(address[0])
        # From another address than the server's: from its own would be this machine.
        return real_connect(("127.0.0.1", address[1]), timeout, source_address=("127.0.0.2", 0))

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    return addresses, connections


def fetch(url, **options):
    return fetch_image_bytes(url, **{"timeout": 10, "allow_private": True, **options})


def test_fetches_a_file_and_encodes_its_url():
    paths = []

    def answer(request):
        paths.append((request.path, request.headers["Host"]))
        send(request, 200, b"data")

    with http_server(answer) as server:
        assert fetch(f"HTTP://{server}/caf\u00e9 1.jpg?a=\u00fc&b=%20#part") == b"data"
        assert paths == [("/caf%C3%A9%201.jpg?a=%C3%BC&b=%20", server)]
        assert fetch(f"http://{server}?q=1") == b"data"
        assert paths[-1][0] == "/?q=1"


@pytest.mark.parametrize("url", PRIVATE_URLS)
def test_private_addresses_are_blocked(url, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("connected"))
    with pytest.raises(BlockedAddressError, match=r"^Cannot fetch .*not a public one\.$") as caught:
        fetch(url, allow_private=False)
    assert isinstance(caught.value, ImageReadError)


@pytest.mark.parametrize("url", PRIVATE_URLS[:6] + PRIVATE_URLS[12:18] + ["//127.0.0.1/x"])
def test_redirects_to_private_addresses_are_blocked(url, public_hosts):
    addresses, connections = public_hosts
    addresses["public.example"] = ["93.184.216.34"]
    with http_server(lambda request: send(request, 302, Location=url)) as server:
        port = server.rpartition(":")[2]
        with pytest.raises(BlockedAddressError):
            fetch(f"http://public.example:{port}/x.jpg", allow_private=False)
    assert connections == ["93.184.216.34"]


def test_connects_to_the_address_that_was_checked(public_hosts):
    addresses, connections = public_hosts
    addresses["public.example"] = ["93.184.216.34"]
    hosts = []

    def answer(request):
        hosts.append(request.headers["Host"])
        addresses["public.example"] = ["127.0.0.1"]  # from now on
        send(request, 200, b"data")

    with http_server(answer) as server:
        url = f"http://public.example:{server.rpartition(':')[2]}/x.jpg"
        assert fetch(url, allow_private=False) == b"data"
        assert connections == ["93.184.216.34"] and hosts == [url.split("/")[2]]
        with pytest.raises(BlockedAddressError):
            fetch(url, allow_private=False)


def test_one_private_address_of_several_is_enough(public_hosts):
    addresses, connections = public_hosts
    addresses["mixed.example"] = ["93.184.216.34", "10.0.0.1"]
    with pytest.raises(BlockedAddressError):
        fetch("http://mixed.example/x.jpg", allow_private=False)
    assert connections == []


def test_a_public_address_of_this_machine_is_blocked(monkeypatch):
    monkeypatch.setattr(connection, "is_public_address", lambda address: True)
    with (
        http_server(lambda request: send(request, 200, b"data")) as server,
        pytest.raises(BlockedAddressError),
    ):
        fetch(f"http://{server}/x.jpg", allow_private=False)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("gopher://example.com/", "only http and https"),
        ("x.jpg", "only http and https"),
        ("http://", "not a valid URL"),
        ("http:///x.jpg", "not a valid URL"),
        ("http://a:b/x.jpg", "not a valid URL"),
        ("http://a:99999/x.jpg", "not a valid URL"),
        ("http://[::1/x.jpg", "not a valid URL"),
        (f"http://{'a' * 70}.example/x.jpg", "not a valid URL"),
        ("http://user:secret@127.0.0.1/x.jpg", "user name"),
        ("http://example.com\\@127.0.0.1/x.jpg", "user name"),
        ("http://no-such-host.invalid/x.jpg", "unknown"),
        ("http://127.0.0.1:9/\x00\ud800.jpg", "not a valid URL"),
    ],
)
def test_urls_that_are_refused(url, message):
    with pytest.raises(RemoteImageError, match=message) as caught:
        fetch(url)
    assert str(caught.value).isprintable()


def test_redirects_are_followed_but_not_without_end():
    def answer(request):
        number = int(request.path[1:])
        send(request, 200, b"data") if number == 0 else send(request, 307, Location=f"{number - 1}")

    with http_server(answer) as server:
        assert fetch(f"http://{server}/5") == b"data"
        with pytest.raises(RemoteImageError, match="more than 5 times"):
            fetch(f"http://{server}/6")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_to_other_schemes_are_refused(location):
    with (
        http_server(lambda request: send(request, 301, Location=location)) as server,
        pytest.raises(RemoteImageError, match="only http and https"),
    ):
        fetch(f"http://{server}/")


def send_without_length(request, chunks):
    request.send_response(200)
    request.end_headers()
    for chunk in chunks:
        request.wfile.write(chunk)


def test_size_limit():
    def answer(request):
        if request.path == "/length":
            send(request, 200, b"x" * 2000)
        elif request.path == "/endless":
            send_without_length(request, iter(lambda: b"x" * 1000, None))
        else:
            send(request, 200, b"x" * 1000, Content_Length="1500")
            request.close_connection = True

    with http_server(answer) as server:
        assert len(fetch(f"http://{server}/length", max_bytes=2000)) == 2000
        for path in ("length", "endless"):
            with pytest.raises(RemoteImageTooLargeError, match="more than 1999 bytes"):
                fetch(f"http://{server}/{path}", max_bytes=1999)
        with pytest.raises(RemoteImageError, match="broke off"):
            fetch(f"http://{server}/short")


@pytest.mark.parametrize("path", ["silent", "header", "body"])
def test_time_limit_counts_for_everything(path):
    def drip():
        while True:
            time.sleep(0.05)
            yield b"x"

    def answer(request):
        if request.path == "/silent":
            time.sleep(3)
        elif request.path == "/header":
            for byte in drip():
                request.wfile.write(byte)
        else:
            send_without_length(request, drip())

    with http_server(answer) as server:
        start = time.monotonic()
        with pytest.raises(RemoteImageError, match="takes too long"):
            fetch(f"http://{server}/{path}", timeout=0.3)
        assert time.monotonic() - start < 2


def test_slow_resolver(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: time.sleep(1) or [])
    with pytest.raises(RemoteImageError, match="takes too long"):
        fetch("http://slow.example/x.jpg", timeout=0.1)


def test_errors_of_the_server():
    def answer(request):
        send(request, 404) if request.path == "/404" else send(
            request, 200, b"data", Content_Encoding="gzip"
        )

    with http_server(answer) as server:
        with pytest.raises(RemoteImageError, match="answers 404 Not Found"):
            fetch(f"http://{server}/404")
        with pytest.raises(RemoteImageError, match="compressed"):
            fetch(f"http://{server}/gzip")
        with pytest.raises(RemoteImageError):  # no TLS here
            fetch(f"https://{server}/")
    with pytest.raises(RemoteImageError, match="refused"):
        fetch(f"http://{server}/404")


def test_proxies_only_where_private_addresses_are_allowed(monkeypatch):
    requests = []

    def answer(request):
        requests.append((request.command, request.path, request.headers["Proxy-Authorization"]))
        send(request, 200 if request.command == "GET" else 403, b"data")

    with http_server(answer) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{proxy}")
        monkeypatch.setenv("https_proxy", f"http://{proxy}")
        assert fetch("http://behind.invalid/x.jpg?a=1") == b"data"
        assert requests == [("GET", "http://behind.invalid/x.jpg?a=1", "Basic bWU6cEBzcw==")]
        with pytest.raises(RemoteImageError, match="403"):
            fetch("https://behind.invalid/x.jpg")
        assert requests[1][:2] == ("CONNECT", "behind.invalid:443")
        monkeypatch.setenv("no_proxy", "behind.invalid")
        for options in ({}, {"allow_private": False}):
            with pytest.raises(RemoteImageError, match="unknown"):
                fetch("http://behind.invalid/x.jpg", **options)
        monkeypatch.delenv("no_proxy")
        with pytest.raises(RemoteImageError, match="unknown"):
            fetch("http://behind.invalid/x.jpg", allow_private=False)
        assert len(requests) == 2
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1080")
        with pytest.raises(RemoteImageError, match="socks5"):
            fetch("http://behind.invalid/x.jpg")


def test_tls_checks_the_name_of_the_host(tmp_path, public_hosts, monkeypatch):
    context, certificate = make_certificate(tmp_path, "public.example")
    addresses, _ = public_hosts
    addresses.update({host: ["93.184.216.34"] for host in ("public.example", "other.example")})
    trusting = ssl.create_default_context(cafile=certificate)

    def answer(request):
        if request.path == "/slow":
            time.sleep(2)
        send(request, 200, b"data")

    with http_server(answer, context) as server:
        url = f"https://public.example:{server.rpartition(':')[2]}"
        with pytest.raises(RemoteImageError, match="certificate is not valid"):
            fetch(f"{url}/x.jpg", allow_private=False)
        monkeypatch.setattr(connection, "_tls_context", lambda: trusting)
        assert fetch(f"{url}/x.jpg", allow_private=False) == b"data"
        with pytest.raises(RemoteImageError, match="certificate is not valid"):
            fetch(f"{url}/x.jpg".replace("public", "other"), allow_private=False)
        with pytest.raises(RemoteImageError, match="too long"):
            fetch(f"{url}/slow", timeout=0.3, allow_private=False)
