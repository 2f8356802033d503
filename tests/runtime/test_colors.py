"""Colors of classes: stable, and distinct to the eye (CIEDE2000)."""

import numpy as np
import pytest

from tood_runtime.colors import class_color, to_linear, to_oklab

XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375],
     [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip


def cielab(rgb) -> np.ndarray:
    xyz = to_linear(rgb) @ XYZ.T / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """After Sharma, Wu and Dalal (2005)."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(first, -1, 0), np.moveaxis(second, -1, 0)
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    factor = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7))
    a1, a2 = factor * a1, factor * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    step = (h2 - h1 + 180) % 360 - 180
    hue = (h1 + step / 2) % 360
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    cosines = [(-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.2, 4, -63)]
    t = 1 + sum(weight * np.cos(np.radians(n * hue + shift)) for weight, n, shift in cosines)
    offset = (lightness - 50) ** 2
    dl = (l2 - l1) / (1 + 0.015 * offset / np.sqrt(20 + offset))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(step / 2)) / (1 + 0.015 * chroma * t)
    turn = 60 * np.exp(-(((hue - 275) / 25) ** 2))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * np.sin(np.radians(turn))
    return np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh)


def test_distance_as_in_its_paper():
    pairs = [
        ([50, 2.6772, -79.7751], [50, 0, -82.7485], 2.0425),
        ([50, -1.1848, -84.8006], [50, 0, -82.7485], 1.0000),
        ([50, 2.5, 0], [73, 25, -18], 27.1492),
        ([22.7233, 20.0904, -46.6940], [23.0331, 14.9730, -42.5619], 2.0373),
    ]
    for first, second, expected in pairs:
        assert ciede2000(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("number, least", [(5, 32), (10, 20), (20, 12), (80, 6), (1203, 1.3)])
def test_colors_are_distinct(number, least):
    lab = cielab([class_color(i) for i in range(number)])
    distances = ciede2000(lab[:, None], lab[None])
    assert distances[~np.eye(number, dtype=bool)].min() >= least


def test_colors_depend_on_the_index_alone():
    """Also beyond the number of classes of most models, and of any."""
    colors = [class_color(i) for i in range(1500)]
    assert len(set(colors)) == 1500
    assert all(type(x) is int and 0 <= x <= 255 for color in colors for x in color)
    assert [class_color(i) for i in range(99, 102)] == colors[99:102]
    assert class_color(1500 + 7) == colors[7]
    assert colors[:3] == [(238, 34, 34), (0, 255, 0), (0, 68, 255)]  # a saved drawing's too


def test_oklab_as_published():
    """White, and red as in CSS Color 4."""
    np.testing.assert_allclose(to_oklab([[255, 255, 255]]), [[1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(to_oklab([[255, 0, 0]]), [[0.62796, 0.22486, 0.12585]], atol=1e-4)
