"""Downloads against a local server that truncates, stalls, lies and counts."""

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tood.checkpoint import downloading
from tood.checkpoint.downloading import place_in_cache, published_hash
from tood.checkpoint.safe_load import load_file, resolve_path
from tood.errors import CheckpointError
from tood.model_zoo import MODELS

# Without imports: a child that is forked needs no time to start.
fork = multiprocessing.get_context("fork")


class Server(ThreadingHTTPServer):
    """Serves one content under any name; the first folder of the path says how."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests = content, []
        self.proceed = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    close_connection = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, kind = self.server, self.path.split("/")[1]
        server.requests.append(self.path)
        body = server.content
        if kind == "missing":
            return self.send_error(404)
        if kind == "page":
            body = b"<html>Please sign in</html>"
        self.send_response(200)
        self.send_header("Connection", "close")
        if kind == "chunks":
            self.send_header("Transfer-Encoding", "chunked")
        elif kind != "endless":
            self.send_header("Content-Length", str(0 if kind == "empty" else len(body)))
        self.end_headers()
        half = body[: len(body) // 2]
        if kind == "chunks":
            half = b"%x\r\n" % len(body) + half
        if kind in ("truncated", "chunks", "endless", "stalled", "slow"):
            self.wfile.write(half)
            self.wfile.flush()
            if kind == "slow":
                server.proceed.wait(20)
                self.wfile.write(body[len(body) // 2 :])
            if kind == "stalled":
                server.proceed.wait(20)
        elif kind != "empty":
            self.wfile.write(body)
        return None


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path):
    torch.save({"model": {"a": torch.arange(5000.0)}}, tmp_path / "model.pth")
    server = Server((tmp_path / "model.pth").read_bytes())
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.proceed.set()
    server.shutdown()
    server.server_close()


def files(cache: Path) -> list[str]:
    """Names in the cache, without iopath's locks."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock")


def hashed_name(content: bytes) -> str:
    """As OpenMMLab names its files."""
    return f"tood_20211210_103425-{hashlib.sha256(content).hexdigest()[:8]}.pth"


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def start(url: str):
    """A process that downloads; its exit code is 0 if it has the whole file then."""

    def main():
        try:
            tensors = load_file(resolve_path(url))["model"]
            os._exit(0 if torch.equal(tensors["a"], torch.arange(5000.0)) else 1)
        except BaseException:
            os._exit(2)

    process = fork.Process(target=main)
    process.start()
    return process


def test_processes_share_one_download_even_if_one_is_killed(server, cache):
    url = server.url("slow/model.pth")
    first = start(url)
    wait_for(lambda: files(cache) == [".model.pth.part"])
    others = [start(url) for _ in range(3)]
    time.sleep(0.3)
    assert len(server.requests) == 1  # they wait
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert all(process.is_alive() for process in others)
    server.proceed.set()
    for process in others:
        process.join()
    assert [process.exitcode for process in others] == [0, 0, 0]
    assert len(server.requests) == 2
    assert files(cache) == ["model.pth"]


def test_killed_download_leaves_nothing_that_is_taken(server, cache):
    url = server.url("slow/model.pth")
    process = start(url)
    wait_for(lambda: files(cache) == [".model.pth.part"])
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    server.proceed.set()
    assert Path(resolve_path(url)).read_bytes() == server.content
    assert files(cache) == ["model.pth"]


def test_without_locks_each_process_downloads_to_a_file_of_its_own(server, cache, monkeypatch):
    """As on network file systems that have none."""

    class Broken:
        def acquire(self, **_):
            raise downloading.LockException("no locks available")

    monkeypatch.setattr(downloading, "file_lock", lambda _: Broken())
    url = server.url("slow/model.pth")
    processes = [start(url) for _ in range(2)]
    wait_for(lambda: len(server.requests) == 2)
    server.proceed.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert files(cache) == ["model.pth"]


@pytest.mark.parametrize(
    "path, message",
    [
        ("truncated/model.pth", r"cannot be downloaded \(the connection ended after \d+ of \d+ by"),
        ("chunks/model.pth", r"cannot be downloaded \(IncompleteRead"),
        ("endless/model.pth", r"What http.*/model\.pth answered cannot be read as a checkpoint"),
        ("empty/model.pth", r"What http.*/model\.pth answered cannot be read.*it is empty"),
        ("page/model.pth", r"What http.*answered cannot be read as a checkpoint: it is a web page"),
        ("missing/model.pth", r"cannot be downloaded \(HTTP Error 404: Not Found\)\. Download it"),
        ("whole/", "names no file"),
        ("stalled/model.pth", r"cannot be downloaded \(timed out\)"),
    ],
)
def test_what_is_not_whole_is_not_kept(server, cache, path, message, monkeypatch):
    monkeypatch.setattr(downloading, "_TIMEOUT", 0.3)
    with pytest.raises(CheckpointError, match=message):
        resolve_path(server.url(path))
    assert files(cache) == []


def test_no_network_names_the_place_in_the_cache(cache):
    url = "http://127.0.0.1:9/some/model.pth"
    with pytest.raises(CheckpointError, match=r"Connection refused.* save it as (\S+)$") as error:
        resolve_path(url)
    place = Path(str(error.value).rpartition(" ")[2])
    assert place == cache / "127.0.0.1_9/some/model.pth"
    torch.save({}, place)
    assert resolve_path(url) == str(place)


def test_wrong_hash_is_an_error_and_the_file_does_not_stay(server, cache):
    with pytest.raises(CheckpointError, match="starts with [0-9a-f]{8}, and not with 20e20746"):
        resolve_path(server.url("whole/tood_r50_fpn_1x_coco_20211210_103425-20e20746.pth"))
    assert files(cache) == []


def test_wrong_file_in_the_cache_is_replaced(server, cache, caplog):
    name = hashed_name(server.content)
    url = server.url(f"whole/{name}")
    local = Path(resolve_path(url))
    torch.save({"model": {"a": torch.zeros(3)}}, local)
    assert Path(resolve_path(url)).read_bytes() == server.content
    assert "is removed and downloaded again" in caplog.text and len(server.requests) == 2
    torch.save({"model": {"a": torch.zeros(3)}}, local)
    server.content = b"other"  # and now it cannot be replaced
    with pytest.raises(CheckpointError, match="It was not kept"):
        resolve_path(url)
    assert files(cache) == []


def test_file_in_a_read_only_cache_is_used(server, cache, monkeypatch, tmp_path):
    """An administrator fills it for everyone; iopath answers with a temporary folder then."""
    url = server.url(f"whole/{hashed_name(server.content)}")
    local = cache / place_in_cache(url)
    local.parent.mkdir(parents=True)
    local.write_bytes(server.content)
    monkeypatch.setattr(downloading, "get_cache_dir", lambda: str(tmp_path / "other"))
    assert resolve_path(url) == str(local)
    assert server.requests == []


def test_published_weights_lie_where_iopath_puts_them():
    """So detectron2's DefaultPredictor finds them too; and the one list has their hash."""
    for info in MODELS:
        if info.weights_url is not None:
            assert published_hash(info.weights_url) == info.sha256_prefix
            path = info.weights_url.removeprefix("https://download.openmmlab.com/")
            assert place_in_cache(info.weights_url) == Path(path)


@pytest.mark.parametrize(
    "url, place",
    [
        ("https://a.org/model.pth", "a.org/model.pth"),  # iopath has one place for these two
        ("https://b.org:81/model.pth", "b.org_81/model.pth"),
        ("https://me:secret@b.org/%C3%A4/../x/model.pth", "b.org/ä/x/model.pth"),
        ("https://dl.fbaipublicfiles.com/detectron2/R-50.pkl", "detectron2/R-50.pkl"),
    ],
)
def test_place_in_the_cache(url, place):
    assert place_in_cache(url) == Path(place)


def test_queries_and_long_names_have_places_of_their_own():
    first, second = (place_in_cache(f"https://a.org/m.pth?token=secret{i}") for i in (1, 2))
    assert first != second and "secret" not in str(first) and first.suffix == ".pth"
    assert len(place_in_cache(f"https://a.org/{'ä' * 200}.pth").name) < 80


@pytest.mark.parametrize(
    "url, digits",
    [
        ("https://download.pytorch.org/models/resnet50-0676ba61.pth", "0676ba61"),
        ("https://mirror.org/tood_r50_fpn_1x_coco_20211210_103425-20e20746.pth", "20e20746"),
        ("https://a.org/model-20211210.pth", None),  # a date
        ("https://download.openmmlab.com/model.pth", None),
    ],
)
def test_hash_in_the_name(url, digits):
    assert published_hash(url) == digits
