"""Text and links that no dataset has, found by tools.fuzz.readers."""

import pytest

from tests.data.formats.builders import (
    VOC_CAT,
    YOLO_BOX,
    read_voc,
    read_yolo,
    read_yolo_rows,
    voc_xml,
    write_image,
    write_text,
)
from tood.errors import DataError


@pytest.mark.parametrize("key", ["path", "nc"])
def test_aliases_that_repeat_each_other(yolo_file, key):
    """Written out they would have 10^12 values, which a message would have to show."""
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    text = f"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n{levels}{key}: *a11\n"
    yolo_file.write_text(text)
    with pytest.raises(DataError, match="expands to more than 1000000 values"):
        read_yolo(yolo_file)


@pytest.mark.parametrize("target", ["..", "../..", "/"])
def test_links_to_folders_above_are_not_followed(yolo_file, target):
    """The whole disk would be searched for images."""
    (yolo_file.parent.parent / "other.png").touch()
    (yolo_file.parent / "images" / "train" / "up").symlink_to(target)
    assert len(read_yolo(yolo_file)) == 2


@pytest.mark.parametrize("target", ["..", "../..", "/"])
def test_the_images_are_no_folder_above_the_dataset(yolo_file, target):
    message = "has more than the images: .* lies in it. Name the folder of the images"
    yolo_file.write_text(f"train: {target}\nnames: [a, b]\n")
    with pytest.raises(DataError, match=message):
        read_yolo(yolo_file)
    yolo_file.write_text("train: list.txt\nnames: [a, b]\n")
    (yolo_file.parent / "list.txt").symlink_to(target)
    with pytest.raises(DataError, match=message):
        read_yolo(yolo_file)
    yolo_file.write_text("train: .\nnames: [a, b]\n")
    assert len(read_yolo(yolo_file)) == 2


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32"])
def test_zero_bytes(yolo_file, encoding):
    """UTF-16 without a mark is UTF-8 with zero bytes, which no path may have."""
    folder = yolo_file.parent
    (folder / "list.txt").write_bytes("images/train/a.png".encode(encoding))
    yolo_file.write_text("train: list.txt\nnames: [a, b]\n")
    with pytest.raises(DataError, match=r"list\.txt is not a text file.*Save it in UTF-8"):
        read_yolo(yolo_file)
    yolo_file.write_text("train: images/train\nnames: [a, b]\n")
    with pytest.raises(DataError, match=r"a\.txt is not a text file.*Save it in UTF-8"):
        read_yolo_rows(yolo_file, f"0 {YOLO_BOX}".encode(encoding))


@pytest.mark.parametrize("line", ['""', "/", "..", '"/"'])
def test_lines_of_a_list_that_name_nothing(tmp_path, line):
    write_text(tmp_path / "Annotations" / "a.xml", voc_xml([VOC_CAT]))
    write_image(tmp_path / "JPEGImages" / "a.png")
    write_text(tmp_path / "ImageSets" / "Main" / "train.txt", f"a\n{line}\n")
    with pytest.raises(DataError, match="1 images have no XML file"):
        read_voc(tmp_path)


@pytest.mark.parametrize("text", ["\\0", "\\ud800"])
def test_escapes_of_what_no_text_has(yolo_file, text):
    for line in (f'train: "{text}"\nnames: [a, b]', f'train: images/train\nnames: ["{text}", b]'):
        yolo_file.write_text(line)
        with pytest.raises(DataError, match="which no text can have"):
            read_yolo(yolo_file)


def test_the_home_folder_of_nobody(yolo_file):
    yolo_file.write_text("path: ~nobody-here\ntrain: images/train\nnames: [a, b]\n")
    assert len(read_yolo(yolo_file)) == 2
    yolo_file.write_text("train: ~nobody-here/x\nnames: [a, b]\n")
    with pytest.raises(DataError, match="do not exist"):
        read_yolo(yolo_file)
