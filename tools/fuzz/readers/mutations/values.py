"""Values that readers tend to get wrong."""

import math
from random import Random
from typing import Any

# Paths that lead elsewhere; whatever is written to them is noticed.
PATHS = (
    *("../../x", "../../../outside/x", "/etc/passwd", "/dev/zero", "/dev/stdin", "..", "/", "~"),
    *("C:\\x\\y.png", "file:///etc/passwd", "http://127.0.0.1:9/x.png", "\\\\host\\share\\x.png"),
    *(
        "a" * 300 + ".png",
        "/".join("abcdefgh" * 600),
        "a.png/b.png",
        "./a.png",
        "//a.png",
        "a.png\0b",
    ),
)
_TEXTS = (
    *(
        "",
        " ",
        "0",
        "1e5",
        "nan",
        "inf",
        "-1",
        "null",
        "true",
        "~",
        "\0",
        "\n",
        "\x1b[31m",
        "\ufeff",
    ),
    *("\u202e", "e\u0301", "\U0001d518", "%s%n%x", "{0}", "{x.__class__}", "<script>x</script>"),
    *("|", "'", '"', "\\", "`x`", "$(x)", "x" * 100_000, "\u2028", "1" * 5000, "٣", "²", "1_000"),
)
_NUMBERS = (
    *(0, 1, -1, 2, 3, 1.5, -0.0, 0.1, 1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *(2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400),
    *(1e18, 1e19, -5, 255, 256, 65_536, 10**6, 10**8, -(10**8), 10**9),
)


def any_text(rng: Random) -> str:
    """A text, perhaps a path."""
    return rng.choice(rng.choice((PATHS, _TEXTS)))


def any_number(rng: Random) -> int | float:
    """A number."""
    return rng.choice(_NUMBERS)


def any_value(rng: Random) -> Any:
    """A value of any type that JSON has."""
    kind = rng.randrange(8)
    if kind < 3:
        return any_number(rng)
    if kind < 6:
        return any_text(rng)
    plain = (
        None,
        True,
        False,
        [],
        {},
        [[]],
        {"": {}},
        [None] * 3,
        {"a": [1]},
        ["a", 1],
        [0] * 5000,
    )
    return rng.choice(plain)
