"""tood serve."""

import pytest

from tood.inference.detector import Detector
from tood_runtime.serving import server

testclient = pytest.importorskip("fastapi.testclient")


@pytest.fixture
def served(monkeypatch):
    """The apps that were served, each with where; none is."""
    apps = []

    class Server:
        def run(self, sockets):
            apps[-1] += [socket.getsockname() for socket in sockets]

    def make_server(app, queue_size, trusted_proxies):
        apps.append([app])
        return Server()

    monkeypatch.setattr(server, "make_server", make_server)
    return apps


def test_serves_a_run(tood, run_folder, shapes, served, capsys):
    path = min((shapes / "images").glob("*.png"))
    options = ["--score-threshold", 0.1, "--batch-size", 2, "--max-megabytes", 0.5, "--port", 0]
    assert tood("serve", run_folder, *options) == 0
    (app, (host, port)), log = served[0], capsys.readouterr()
    assert host == "127.0.0.1" and f"at http://127.0.0.1:{port}/" in log.out + log.err
    with testclient.TestClient(app, base_url="http://localhost") as client:
        model = client.get("/model").json()
        assert (model["name"], model["max_body_bytes"]) == (run_folder.name, 500_000)
        assert model["min_size"] == 64 and "circle" in model["class_names"]
        data = path.read_bytes()
        answer = client.post("/detect", content=data, headers={"Content-Type": "image/png"})
        expected = Detector.from_pretrained(run_folder)(path, score_threshold=0.1)
        found = answer.json()["detections"]
        assert len(found) == len(expected) > 0
        for one, score, box in zip(found, expected.confidence, expected.xyxy, strict=True):
            assert one["score"] == pytest.approx(score, abs=1e-5)
            assert one["box"] == pytest.approx(box.tolist(), abs=0.01)
        assert client.get("/model", headers={"Host": "evil.example"}).status_code == 421


def test_warns_when_others_can_reach_it(tood, run_folder, served, capsys):
    assert tood("serve", run_folder, "--host", "0.0.0.0", "--port", 0) == 0
    log = capsys.readouterr()
    assert "the server has no passwords" in log.out + log.err
    with testclient.TestClient(served[0][0], base_url="http://any.example") as client:
        assert client.get("/model").status_code == 200


def test_user_errors(tood, run_folder, errors):
    assert tood("serve", run_folder, "--classes", "dog") == 2
    assert "Unknown classes 'dog'" in errors()[0]
    assert tood("serve", run_folder, "--host", "192.0.2.1") == 2
    assert "Cannot listen at 192.0.2.1, port 8000" in errors()[0]
