"""Copies are found however they were edited; different images are not taken for copies."""

import os
from collections.abc import Callable

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageEnhance

from tests.data.builders import photo, save_photos
from tood.data import near_duplicates as module
from tood.data.near_duplicates import (
    Match,
    equal_files,
    fingerprint,
    fingerprint_images,
    near_duplicates,
    repeated_files,
)
from tood_runtime.image_io import ImageReadError, read_image

EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda image: image.resize((80, 60)),
    "stretched": lambda image: image.resize((100, 100)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "gray": lambda image: image.convert("L"),
    "cropped": lambda image: image.crop((3, 2, image.width, image.height)),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("options", [{"suffix": ".jpg", "quality": 30}, {"suffix": ".png"}])
def test_edited_copies_are_found(tmp_path, edit, options):
    suffix, options = options["suffix"], {k: v for k, v in options.items() if k != "suffix"}
    train = save_photos(tmp_path, list(range(20)))
    test = []
    for seed in (7, 3, 100):  # the last one is no training image
        test.append(str(tmp_path / f"copy{seed}{suffix}"))
        EDITS[edit](photo(seed)).save(test[-1], **options)
    matches = near_duplicates(fingerprint_images(test), fingerprint_images(train))
    assert matches == [Match(0, 7), Match(1, 3)]
    assert equal_files(test, train) == []


def test_different_images_do_not_match(tmp_path):
    prints = fingerprint_images(save_photos(tmp_path, list(range(60))))
    others = fingerprint_images(save_photos(tmp_path, list(range(100, 160))))
    assert near_duplicates(prints, others) == []


def test_plain_images_and_objects_on_a_plain_background_do_not_match(tmp_path):
    paths = []
    for index, corner in enumerate([None, None, (20, 20), (100, 60)]):
        image = Image.new("RGB", (160, 120), "white")
        if corner is not None:
            image.paste((0, 0, 0), (*corner, corner[0] + 30, corner[1] + 30))
        paths.append(str(tmp_path / f"{index}.png"))
        image.save(paths[-1])
    prints = fingerprint_images(paths)
    assert prints.comparable.tolist() == [False, False, True, True]
    assert (
        near_duplicates(fingerprint_images(paths[1:3]), fingerprint_images([paths[0], paths[3]]))
        == []
    )


def test_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    photo(1).save(tmp_path / "tag.jpg", exif=exif)
    photo(1).transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png")
    first, second = (fingerprint_images([str(tmp_path / n)]) for n in ("tag.jpg", "turned.png"))
    assert near_duplicates(first, second) == [Match(0, 0)]
    first = fingerprint_images([str(tmp_path / "tag.jpg")], apply_exif=False)
    assert near_duplicates(first, second) == []
    assert near_duplicates(first, fingerprint_images(save_photos(tmp_path, [1]))) == [Match(0, 0)]


def test_the_most_similar_image_is_named(tmp_path):
    train = save_photos(tmp_path, [0, 1])
    ImageEnhance.Brightness(photo(1)).enhance(1.2).save(tmp_path / "bright.png")
    photo(1).save(tmp_path / "copy.png")
    others = fingerprint_images([str(tmp_path / "bright.png"), *train])
    test = fingerprint_images([str(tmp_path / "copy.png")])
    assert near_duplicates(test, others) == [Match(0, 2)]


def test_images_are_compared_in_parts(tmp_path, monkeypatch):
    prints = fingerprint_images(save_photos(tmp_path, list(range(9))))
    monkeypatch.setattr(module, "_MAX_PAIRS", 20)
    assert near_duplicates(prints, prints) == [Match(i, i) for i in range(9)]


def test_ones_are_counted_without_numpy_2(monkeypatch):
    values = np.array([[0, 1], [2**64 - 1, 0b1011 << 40]], np.uint64)
    assert module._count_ones(values).tolist() == [[0, 1], [64, 3]]
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert module._count_ones(values).tolist() == [[0, 1], [64, 3]]


def test_unreadable_images_are_named_and_match_nothing(tmp_path):
    good, cut = save_photos(tmp_path, [0, 1])
    data = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(data[: len(data) // 2])
    os.mkfifo(tmp_path / "pipe")
    paths = [good, cut, str(tmp_path / "none.jpg"), str(tmp_path / "pipe")]
    prints = fingerprint_images(paths, num_threads=2)
    assert list(prints.unreadable) == [1, 2, 3]
    assert "truncated" in prints.unreadable[1]
    assert near_duplicates(prints, prints) == [Match(0, 0)]


def test_hash_is_of_neighboring_pixels(tmp_path):
    ramp = np.tile(np.arange(0, 252, 7, dtype=np.uint8), (36, 1))  # rises to the right
    Image.fromarray(ramp).save(tmp_path / "x.png")
    bits, thumbnail = fingerprint(str(tmp_path / "x.png"))
    assert np.unpackbits(bits.view(np.uint8)).tolist() == [1] * 64 + [0] * 64
    assert (np.diff(thumbnail.reshape(16, 16).astype(int), axis=1) > 0).all()


def test_equal_files(tmp_path):
    for name, content in {"a": b"1", "b": b"2", "c": b"1", "d": b"22", "e": b"1"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c, d, e, missing = (str(tmp_path / name) for name in "abcdex")
    assert equal_files([missing, d, c, b], [a, missing, e, b]) == [Match(2, 0), Match(3, 3)]
    assert repeated_files([a, b, missing, c, missing, d, e]) == [Match(3, 0), Match(6, 0)]


def test_reduced_images(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    ramp = np.repeat(np.arange(0, 256, dtype=np.uint8)[None, :, None], 512, 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    # 256x512 is decoded at a quarter; no side may be below 64.
    assert read_image(tmp_path / "a.jpg", False, min_side=64).shape == (128, 64, 3)
    assert read_image(tmp_path / "a.jpg", min_side=64).shape == (64, 128, 3)
    assert read_image(tmp_path / "a.png", min_side=64).shape == (512, 256, 3)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(ImageReadError, match="truncated"):
        read_image(tmp_path / "cut.jpg", min_side=64)
