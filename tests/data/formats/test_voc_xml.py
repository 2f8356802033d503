"""Pascal VOC: annotation files as people have them, and what is refused."""

import pytest

from tests.data.formats.builders import (
    VOC_CAT,
    VOC_CAT_BOX,
    read_voc,
    read_voc_xml,
    voc_xml,
    write_image,
)
from tood.errors import DataError

CAT, CAT_BOX = VOC_CAT, VOC_CAT_BOX


def test_pixels_count_from_1(flat):
    """xmin 1 and xmax W are the whole width, as in detectron2's reader."""
    found = read_voc_xml(flat, voc_xml([CAT, ("dog", (1, 1, 64, 48)), ("cat", (5, 6, 5, 6))]))
    assert found.boxes.tolist() == [CAT_BOX, [0, 0, 64, 48], [4, 5, 1, 1]]
    assert found.class_names == ["cat", "dog"] and found.class_ids.tolist() == [0, 1, 0]


def test_a_single_value_below_1_is_an_error_of_one_object(flat):
    found = read_voc_xml(flat, voc_xml([("cat", (0, 1, 30, 40)), *[CAT] * 1000]))
    assert found.boxes[:2].tolist() == [[-1, 0, 31, 40], CAT_BOX]


def test_difficult_objects_are_crowds(flat):
    found = read_voc_xml(flat, voc_xml([CAT, CAT], difficult=[False, True]))
    assert found.is_crowd.tolist() == [False, True]


def test_parts_and_attributes_are_ignored(flat):
    extra = (
        "<truncated>1</truncated><pose>Left</pose><part><name>head</name><bndbox><xmin>1</xmin>"
        "<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
    )
    found = read_voc_xml(flat, voc_xml([CAT]).replace("</object>", extra))
    assert found.boxes.tolist() == [CAT_BOX] and found.class_names == ["cat"]


@pytest.mark.parametrize(
    ("xml", "what", "box"),
    [
        (voc_xml([("cat", (30, 40, 11, 21))]), "boxes with exchanged corners sorted", CAT_BOX),
        (voc_xml([CAT], size=None), "missing image sizes read from the images", CAT_BOX),
        (voc_xml([CAT], size=(0, 0)), "missing image sizes read from the images", CAT_BOX),
        (
            voc_xml([CAT], size=("", "x")),
            "missing image sizes read from the images",
            CAT_BOX,
        ),
        (voc_xml([CAT], size=(640, 480)), "wrong sizes of images in the file", CAT_BOX),
        (
            "<annotation><size><width>64</width><height>48</height></size><object><name>cat</name>"
            "<polygon><x1>11</x1><y1>30</y1><x2>20</x2><y2>21</y2><x3>30</x3><y3>40</y3></polygon>"
            "</object></annotation>",
            "polygons replaced by their boxes",
            CAT_BOX,
        ),
    ],
)
def test_what_is_counted(flat, xml, what, box):
    found = read_voc_xml(flat, xml)
    assert found.boxes.tolist() == [box]
    assert found.changes.counts == {what: 1}
    assert (found.widths[0], found.heights[0]) == (64, 48)


def test_fractions_of_pixels_are_kept(flat):
    """A few of them, as in Pascal VOC 2012; if most objects have them, they count from 0."""
    odd = ("cat", ("11.25", "21.5", " 30.75 ", "4e1"))
    found = read_voc_xml(flat, voc_xml([odd, CAT, CAT]))
    assert found.boxes[:2].tolist() == [[10.25, 20.5, 20.5, 19.5], CAT_BOX]
    found = read_voc_xml(flat, voc_xml([odd, CAT]))
    assert found.boxes.tolist() == [[11.25, 21.5, 19.5, 18.5], [11, 21, 19, 19]]


def test_boxes_of_less_than_a_pixel_are_not_exchanged_corners(flat):
    found = read_voc_xml(flat, voc_xml([("cat", (11.5, 21, 11, 40)), CAT, CAT]))
    assert found.boxes[0].tolist() == [10.5, 20, 0.5, 20]
    assert not found.changes.counts


@pytest.mark.parametrize(
    "encode",
    [
        lambda xml: b"\xef\xbb\xbf" + xml.encode(),
        lambda xml: f'<?xml version="1.0" encoding="utf-8"?>\n{xml}'.encode(),
        lambda xml: f'<?xml version="1.0" encoding="latin-1"?>{xml}'.encode("latin-1"),
        lambda xml: f'<?xml version="1.0" encoding="utf-16"?>{xml}'.encode("utf-16"),
        lambda xml: f'\n<?xml version="1.0" encoding="gbk"?>{xml}'.encode(
            "gbk", "xmlcharrefreplace"
        ),
    ],
)
def test_encodings(flat, encode):
    found = read_voc_xml(flat, encode(voc_xml([("Löwe", CAT[1])])))
    assert found.class_names == ["Löwe"] and found.boxes.tolist() == [CAT_BOX]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "a.xml is empty"),
        ("\0", "a.xml is not valid XML"),
        ("<annotation><object>", "a.xml is not valid XML"),
        ("<html></html>", "its root is <html>, not <annotation>"),
        (
            voc_xml([CAT]).replace("<name>cat</name>", "<name> </name>"),
            "object 1 has no <name>",
        ),
        ("<annotation><object><name>a</name></object></annotation>", r"\(a\) has no <bndbox>"),
        (
            voc_xml([CAT, ("a", (1, 2, "x", 4))]),
            "object 2: <xmax> is 'x', which is not a number",
        ),
        (voc_xml([("a", (1, "", 3, 4))]), "object 1: <ymin> is ''"),
        (
            voc_xml([("Löwe", CAT[1])]).encode("latin-1"),
            "not text in utf-8-sig. Save it in UTF-8",
        ),
        # Codecs that raise other errors of Unicode.
        ('<?xml version="1.0" encoding="punycode"?><annotation/>', "not text in punycode. Save"),
        ('<?xml version="1.0" encoding="undefined"?><annotation/>', "not text in undefined. Save"),
        (
            '<?xml version="1.0" encoding="unicode_escape"?>'
            r"<annotation>\x3c!DOCTYPE x></annotation>",
            "not text in unicode_escape",
        ),
        (f'<?xml version="1.0" encoding="{"9" * 5000}"?>', r"not text in 9{100}\.\.\.\. Save it"),
        (
            '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>',
            "declares a DOCTYPE",
        ),
        (
            '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x [<!ENTITY e "lol">]>'
            "<annotation>&e;</annotation>".encode("utf-16"),
            "declares a DOCTYPE",
        ),
        (voc_xml([("cat", (1, 1, 640, 480))], size=(640, 480)), "is for 640x480 pixels, but its"),
    ],
)
def test_annotations_that_are_refused(flat, xml, message):
    if isinstance(message, str) and "utf-16" in str(xml[:40]):
        xml = xml if isinstance(xml, bytes) else xml.encode("utf-16")
    with pytest.raises(DataError, match=message):
        read_voc_xml(flat, xml)


def test_boxes_drawn_on_the_stored_pixels_of_a_turned_image(flat):
    write_image(flat / "a.jpg", (64, 48), orientation=6)
    with pytest.raises(DataError, match="set INPUT.APPLY_EXIF_ORIENTATION False"):
        read_voc(flat)
    assert read_voc(flat, apply_exif=False).widths.tolist() == [64]
    xml = voc_xml([CAT], size=(48, 64))
    assert read_voc_xml(flat, xml).widths.tolist() == [48]
    with pytest.raises(DataError, match="set INPUT.APPLY_EXIF_ORIENTATION True"):
        read_voc_xml(flat, xml, apply_exif=False)
