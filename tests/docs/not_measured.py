"""Numbers in the pages that look measured and are not: patterns by page, with the reason.

A pattern matches around the number, and has to occur. Keep this short: a number that was measured
belongs into a file in ``docs/results/data``.
"""

LIMITS = "limits that the code sets"
TOLERANCES = "tolerances of the tests that are named there"
VERSIONS = "versions"
DEFAULTS = "defaults of options and keys"

NOT_MEASURED: dict[str, dict[str, str]] = {
    "docs/install.md": {r"detectron2` 0\.4": VERSIONS},
    "docs/guides/augmentation.md": {
        r"fit 0\.1 to 2 times": DEFAULTS,
        r"by up to 20 %": DEFAULTS,
        r"blends 15 %": DEFAULTS,
        r"has 0\.5 to 1 times": DEFAULTS,
    },
    "docs/guides/backbones.md": {
        r"127\.5 for": "timm's value",
        r"18\.8 MB": "the size of another project's package",
    },
    "docs/guides/detect.md": {
        r"at most 100 MB": LIMITS,
        r"scores to 1e-5, tested": TOLERANCES,
        r"\| 0\.3 \|": DEFAULTS,
        r"no slices, 0\.2": DEFAULTS,
        r"the model's, 0\.6\)": DEFAULTS,
        r"take\s1\.2 GB": "100 * 4000 * 3000 bytes",
    },
    "docs/guides/detect_dataset.md": {r"and after 10,000, most": "the size of the input"},
    "docs/guides/export.md": {
        r"0\.01 pixels": LIMITS,
        r"0\.0001 in score": LIMITS,
        r"90, 85 and 75 %": LIMITS,
        r"At most 0\.1 %": LIMITS,
        r"off by 1 %": "an example",
        r"with 2\.11 \(": VERSIONS,
    },
    "docs/guides/scaling.md": {
        r"\b15 seconds": LIMITS,
        r"\b30 seconds": LIMITS,
        r"\b35 seconds": LIMITS,
        r"\b180 seconds": LIMITS,
        r"R50 take 0\.4 GB": "three times 32.2 M parameters of 4 bytes",
        r"With 0\.4 alone": VERSIONS,
    },
    "docs/guides/serving.md": {
        r"\b10 seconds": LIMITS,
        r"\b30 seconds": LIMITS,
        r"together 500 MB": LIMITS,
        r"`--score-threshold`, 0\.3\)": DEFAULTS,
    },
    "docs/guides/train.md": {
        r"is 12\.3 epochs": "90 000 * 16 / 117 266",
        r"batch size: 0\.01 for": DEFAULTS,
        r"up to 32 KiB": "W&B's block size",
        r"`tidecv`, to 1e-9": TOLERANCES,
        r"above 256 MB, about 1\.7 million": LIMITS,
    },
    "docs/background/decisions.md": {
        r"Score > 0\.05": DEFAULTS,
        r"at least 0\.1 \|": DEFAULTS,
        r"0\.5 \* score": "formulas",
        r"max t \+ 1e-7": "formulas",
        r"has no 1e-7": "formulas",
        r"down to 1e-6": "formulas",
        r"pycocotools to 1e-10 \(tested\)": TOLERANCES,
        r"to 4e-6 of the gradient": TOLERANCES,
        r"float64 to 1e-6 \(tested": TOLERANCES,
        r"order is 1\.5e-6 off": TOLERANCES,
        r"by up to 4 pixels in bfloat16": "half the distance of bfloat16's numbers above 1024",
    },
    "docs/background/fidelity.md": {
        r"to 1e-5 \(for R50": TOLERANCES,
        r"of sums, to 2e-5": TOLERANCES,
        r"losses, to 1e-5": TOLERANCES,
        r"gradients, to 1e-5": TOLERANCES,
        r"within 0\.1 % in float16 and 1 % in": TOLERANCES,
        r"agrees to 1e-4": TOLERANCES,
    },
    "docs/background/scaling_arithmetic.md": {
        r"0\.25 s per iteration": "assumptions",
        r": 8 images per second": "assumptions",
        r"50 GB/s of usable": "assumptions",
    },
    "docs/results/fuzzing.md": {
        r"50,000 brackets": "inputs and limits",
        r"300 MB of compressed zeros": "inputs and limits",
        r"refused above 20 MB": "inputs and limits",
        r"0\.1 s and 80 MB for each 25 bytes": "of the fault, before its fix",
    },
    "docs/results/benchmarks.md": {
        r"cores, 24 GiB": "the machines",
        r"H100 \(80 GB": "the machines",
        r"limit is 1\.5x": LIMITS,
        r"0\.2\sseconds": "an example",
        r"consume 10 images": "an example",
        r"and 15 % are blended": DEFAULTS,
    },
}
