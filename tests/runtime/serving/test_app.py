"""The endpoints, without a network in between."""

import io
import re
import time

import numpy as np
import pytest
from PIL import Image

from tests.runtime.serving.fake_detector import CLASSES, FakeDetector, as_json, encoded, image
from tood_runtime.masks import Masks
from tood_runtime.prediction import OptionError
from tood_runtime.serving import ServingSettings, create_app

PNG = {"Content-Type": "image/png"}


def detect(client, data, query="", **headers):
    return client.post(f"/detect{query}", content=data, headers={**PNG, **headers})


def error_of(response, status) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert list(content) == ["error"] and "Traceback" not in content["error"]
    return content["error"]


def test_detections_are_those_of_the_detector(client):
    pixels = image(77, 40, 50)
    expected = {
        "image": {"width": 50, "height": 40},
        "detections": as_json(FakeDetector()(pixels)),
        "batch_size": 1,
    }
    assert len(expected["detections"]) == 2
    data = encoded(pixels)
    for response in (
        detect(client, data),
        detect(client, data, **{"Content-Type": "application/octet-stream"}),
        client.post("/detect", files={"file": ("caf\u00e9.png", data, "image/png")}),
        client.post("/detect", files={"image": data}),
    ):
        assert response.status_code == 200, response.text
        content = response.json()
        assert set(content.pop("milliseconds")) == {"queue", "decode", "model"}
        assert content == expected


def test_masks_are_rle(make_client):
    """Three masks: the whole image of 2x3 pixels, its first column, and nothing."""
    arrays = np.ones((3, 2, 3), bool)
    arrays[1, :, 1:] = arrays[2] = False

    class MaskDetector(FakeDetector):
        @staticmethod
        def find(pixels):
            return FakeDetector.find(pixels)._replace(masks=Masks.from_arrays(arrays, (2, 3)))

    client = make_client(MaskDetector())
    content = detect(client, encoded(image(0, 2, 3)), "?score_threshold=0.1").json()
    # Runs down the columns, zeros first: [0, 6], [0, 2, 4] and [6], as characters from "0" on.
    assert [found["segmentation"] for found in content["detections"]] == [
        {"size": [2, 3], "counts": counts} for counts in ("06", "024", "6")
    ]
    assert "segmentation" not in detect(make_client(), encoded(image())).text


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("?score_threshold=0.1", {"score_threshold": 0.1}),
        ("?score_threshold=0.1&classes=person", {"score_threshold": 0.1, "classes": ["person"]}),
        (
            "?classes=car&classes=traffic%20light&score_threshold=0.2",
            {"classes": ["car", "traffic light"], "score_threshold": 0.2},
        ),
        ("?max_detections=1&format=json", {"max_detections": 1}),
    ],
)
def test_options(client, query, options):
    response = detect(client, encoded(image()), query)
    assert response.json()["detections"] == as_json(FakeDetector()(image(), **options))


def test_options_of_the_server_are_the_defaults(make_client):
    options = {"score_threshold": 0.2, "classes": ["person", "traffic light"], "max_detections": 1}
    client = make_client(options=options)
    found = detect(client, encoded(image())).json()["detections"]
    assert [one["class_name"] for one in found] == ["person"]
    found = detect(client, encoded(image()), "?classes=car").json()["detections"]
    assert [one["class_name"] for one in found] == ["car"]
    assert client.get("/model").json()["options"] == options


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?score_threshold=2", "score_threshold: "),
        ("?score_threshold=nan", "score_threshold: "),
        ("?score_threshold=", "score_threshold: "),
        ("?score_threshold=0.01", "score_threshold is below 0.1."),
        ("?max_detections=0", "max_detections: "),
        ("?classes=dog", "Unknown classes 'dog'. The model has: car, person, traffic light."),
        ("?format=bmp", "format: "),
        ("?threshold=0.5", "Unknown option 'threshold'. Available: score_threshold, classes, "),
    ],
)
def test_wrong_options(client, query, message):
    assert error_of(detect(client, encoded(image()), query), 422).startswith(message)


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpeg", "JPEG")])
def test_drawings(client, name, kind):
    response = detect(client, encoded(image(100, 500, 600)), f"?format={name}")
    assert response.headers["content-type"] == f"image/{name}"
    drawing = Image.open(io.BytesIO(response.content))
    assert (drawing.format, drawing.size) == (kind, (600, 500))
    expected = FakeDetector()(image(100, 500, 600)).draw(image(100, 500, 600))
    difference = np.abs(np.asarray(drawing, int) - np.asarray(expected, int))
    assert difference.max() == 0 if kind == "PNG" else difference.mean() < 2
    assert np.asarray(drawing).std() > 5


@pytest.mark.parametrize(
    ("content_type", "status", "message"),
    [
        ("text/plain", 415, "The Content-Type is 'text/plain'. Send an image file"),
        ("", 415, "The Content-Type is 'missing'"),
        ("application/json", 415, "Images by URL are switched off. Send the image file."),
        ("multipart/form-data", 400, "The form is damaged"),
        ("multipart/form-data; boundary=x", 400, "The form is damaged"),
        ("image/png", 415, "The file is not an image. Available formats: "),
    ],
)
def test_a_text_is_no_image(client, content_type, status, message):
    response = client.post("/detect", content=b"a text", headers={"Content-Type": content_type})
    assert error_of(response, status).startswith(message)


def test_forms(client):
    data = encoded(image())
    for files, fields, message in (
        ({"a": data, "b": data}, {}, "The form has more than the file."),
        ({"file": data}, {"score_threshold": "0.5"}, "The form has more than the file."),
        ({"file": b""}, {}, "The image is empty"),
    ):
        response = client.post("/detect", files=files, data=fields)
        assert error_of(response, 400).startswith(message)
    body, kind = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n', "x"
    headers = {"Content-Type": f"multipart/form-data; boundary={kind}"}
    response = client.post("/detect", content=body, headers=headers)
    assert error_of(response, 400).startswith("The form has no file.")
    assert error_of(detect(client, b""), 400).startswith("The image is empty")


def test_other_endpoints(client):
    model = client.get("/model").json()
    assert model["class_names"] == CLASSES
    assert model["lowest_threshold"] == 0.1
    assert error_of(client.get("/nothing"), 404) == "Not Found."
    assert error_of(client.get("/detect"), 405) == "Method Not Allowed."
    assert error_of(client.get("/../app.py"), 404) == "Not Found."
    schema = client.get("/openapi.json").json()["paths"]["/detect"]["post"]
    assert set(schema["requestBody"]["content"]) >= {"multipart/form-data", "image/*"}
    assert {one["name"] for one in schema["parameters"]} == {
        "score_threshold", "classes", "max_detections", "format",
    }  # fmt: skip


def test_the_page_loads_nothing_from_other_servers(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    files = re.findall(r'(?:src|href)="([\w.]+)"', page.text)
    files += re.findall(r'from "\./(\w+\.js)"', client.get("/page.js").text)
    assert set(files) == {"style.css", "page.js", "drawing.js", "orientation.js"}
    for name in files:
        response = client.get(f"/{name}")
        assert response.status_code == 200
        assert response.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"https?:|//\w+\.\w+/", response.text), name


def test_metrics(client):
    detect(client, encoded(image()))
    detect(client, b"x")
    client.get("/a")
    client.get("/b")
    text = client.get("/metrics").text
    for line in (
        'tood_requests_total{endpoint="/detect",status="200"} 1.0',
        'tood_requests_total{endpoint="/detect",status="415"} 1.0',
        'tood_requests_total{endpoint="other",status="404"} 2.0',
        'tood_request_seconds_count{endpoint="/detect"} 2.0',
        "tood_images_total 2.0",  # the first one was to warm up
        "tood_batch_size_count 2.0",
        "tood_queue_length 0.0",
        "tood_active_requests 0.0",
    ):
        assert line in text.splitlines()


def test_options_that_the_model_cannot_have():
    pytest.importorskip("fastapi")
    with pytest.raises(OptionError, match="Unknown classes 'dog'"):
        create_app(FakeDetector(), ServingSettings(options={"classes": ["dog"]}))
    with pytest.raises(ValueError, match="queue_size must be positive, got 0"):
        ServingSettings(queue_size=0)
    with pytest.raises(ValueError, match="max_pixels must be at most 170000000"):
        ServingSettings(max_pixels=200_000_000)


@pytest.mark.parametrize(
    "repeated", [b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n', b"A: b\r\n"]
)
def test_forms_that_would_take_long(client, repeated):
    body = b"--x\r\n" * repeated.startswith(b"A") + repeated * 100_000
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    start = time.monotonic()
    error_of(client.post("/detect", content=body, headers=headers), 400)
    assert time.monotonic() - start < 2
