#!/usr/bin/env python3
"""Detect objects on a Ray cluster: images from any file system or object store, Parquet out.

    pip install "tood-detectron2[dataset,ray]"
    python demo/detect_on_ray.py TOOD-R50-1x s3://bucket/images s3://bucket/detections \
        --num-workers 8 --num-gpus 1 --batch-size 8

Ray reads the files in tasks, and runs the model in a pool of actors, each of which loads it once.
SOURCE and OUTPUT are folders of a local or mounted disk, which all machines see, or addresses that
pyarrow (s3, gs, hdfs) or fsspec (az, http, memory and more) knows. The rows are those of
``tood detect-dataset``, in any order and without image ids.
"""

import argparse
import sys
from typing import Any

import pyarrow.fs
import ray
import ray.data

# The suffixes of files that are read.
SUFFIXES = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"]


class DetectInBatches:
    """What an actor does: ``BatchDetector``, with columns of fixed types.

    Args:
        model: what ``Detector.from_pretrained`` takes.
        device: likewise.
        options: of ``BatchDetector``.
    """

    def __init__(self, model: str, device: str, options: dict[str, Any]) -> None:
        from tood import Detector
        from tood_runtime.dataset import BatchDetector

        detector = Detector.from_pretrained(model, device=device)
        self.detect = BatchDetector(detector, **options)

    def __call__(self, batch: dict[str, Any]) -> Any:
        """Turn the columns "bytes" and "path" into rows of results."""
        from tood_runtime.dataset import to_table

        return to_table(self.detect(batch))


def find_filesystem(address: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the file system of an address and the path in it: pyarrow's own, else fsspec's."""
    try:
        return pyarrow.fs.FileSystem.from_uri(address)
    except (pyarrow.ArrowInvalid, ValueError):
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(address)
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path


def detect(args: argparse.Namespace) -> None:
    """Detect objects in all images of ``args.source``.

    Raises:
        SystemExit: there are files in ``args.output``. Ray would add rows to them.
    """
    source_filesystem, source = find_filesystem(args.source)
    output_filesystem, output = find_filesystem(args.output)
    selector = pyarrow.fs.FileSelector(output, allow_not_found=True)
    if output_filesystem.get_file_info(selector):
        print(f"error: {args.output} is not empty. Choose another OUTPUT.", file=sys.stderr)
        raise SystemExit(2)
    options = {"batch_size": args.batch_size, "score_threshold": args.score_threshold}
    # Not read_images: it stops at the first broken file.
    images = ray.data.read_binary_files(
        source, filesystem=source_filesystem, include_paths=True, file_extensions=SUFFIXES
    )
    rows = images.map_batches(
        DetectInBatches,
        fn_constructor_args=(args.model, args.device, options),
        batch_size=args.rows_per_call,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=args.num_workers),
        num_gpus=args.num_gpus,
        num_cpus=args.num_cpus,
    )
    rows.write_parquet(output, filesystem=output_filesystem)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="name, run folder, config or exported file")
    parser.add_argument("source", metavar="SOURCE", help="folder or address of the images")
    parser.add_argument("output", metavar="OUTPUT", help="folder or address for Parquet files")
    parser.add_argument("--num-workers", type=int, default=1, help="actors (default: 1)")
    parser.add_argument("--num-gpus", type=float, default=0, help="GPUs of an actor (default: 0)")
    parser.add_argument("--num-cpus", type=float, default=1, help="cores of an actor (default: 1)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")
    parser.add_argument("--batch-size", type=int, default=1, help="images in the network at once")
    parser.add_argument(
        "--rows-per-call", type=int, default=64, help="files of a call of an actor (default: 64)"
    )
    parser.add_argument("--score-threshold", type=float, default=0.3)
    detect(parser.parse_args(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
