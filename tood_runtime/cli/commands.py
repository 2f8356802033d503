"""Every command of ``tood``: its name, its help, its options, and its body."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import install_detectron2
from .arguments import (
    add_analyze,
    add_check_data,
    add_convert,
    add_detect,
    add_eval,
    add_info,
    add_nothing,
    add_quickstart,
    add_show_batch,
    add_train,
    add_visualize,
    join_inputs,
    validate_weights_count,
)
from .dataset_arguments import add_detect_dataset, complete_detect_dataset
from .export_arguments import add_export, complete_export
from .parser import CommandParser
from .report_arguments import add_report, validate_report
from .serving_arguments import add_serve


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: what the user types after ``tood``.
        summary: one line for ``tood --help``.
        add_arguments: adds the command's options to its parser.
        description: the rest of the help's first paragraph.
        examples: arguments for the end of the help.
        complete_args: checks or completes the parsed arguments.
    """

    name: str
    summary: str
    add_arguments: Callable[[CommandParser], None]
    description: str = ""
    examples: tuple[str, ...] = ()
    complete_args: Callable[[CommandParser, argparse.Namespace], None] | None = None

    @property
    def body(self) -> str:
        """The module whose ``main(args) -> int`` runs the command."""
        return f"tood.cli.{self.name.replace('-', '_')}"

    def parser(self, prog: str | None = None) -> CommandParser:
        """Build the parser.

        Args:
            prog: the name in help and errors, for a script that is the same program.
        """
        description = f"{self.summary}\n\n{self.description}" if self.description else self.summary
        parser = CommandParser(prog or f"tood {self.name}", description, self.examples)
        self.add_arguments(parser)
        return parser

    def parse(self, arguments: Sequence[str], prog: str | None = None) -> argparse.Namespace:
        """Parse the arguments that follow the command's name.

        Raises:
            UsageError: they are wrong.
        """
        parser = self.parser(prog)
        args = parser.parse(arguments)
        if self.complete_args is not None:
            self.complete_args(parser, args)
        return args


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "train",
            "Train a detector.",
            add_train,
            "MODEL chooses the config. Training starts from the config's weights (an ImageNet\n"
            "backbone), or from --weights. Your own data needs no code (COCO, YOLO, Pascal VOC\n"
            "and Open Images): set DATASETS.TRAIN_ANNOTATIONS, TRAIN_IMAGES, TEST_ANNOTATIONS and\n"
            "TEST_IMAGES.",
            (
                "TOOD-R50-1x --num-gpus 8",
                "--config-file configs/TOOD-R50-1x.yaml --num-gpus 1 SOLVER.IMS_PER_BATCH 2",
                "output/my-run --resume",
            ),
        ),
        Command(
            "eval",
            "Evaluate a detector on the test set of its config.",
            add_eval,
            examples=(
                "TOOD-R50-1x",
                "output/my-run",
                "--config-file configs/TOOD-R50-1x.yaml MODEL.WEIGHTS model.pth",
                "model.onnx --annotations val.json --images images/",
            ),
        ),
        Command(
            "detect",
            "Detect objects in images and draw them.",
            add_detect,
            examples=(
                "TOOD-R50-1x street.jpg --output out/",
                "output/my-run images/ --score-threshold 0.5 --json detections.json",
            ),
            complete_args=join_inputs,
        ),
        Command(
            "detect-dataset",
            "Detect objects in any number of images, on any number of machines.",
            add_detect_dataset,
            "The images are cut into shards. Each process takes shards that are missing, also\n"
            "under torchrun or srun, and the same command goes on where it was stopped. An image\n"
            "that cannot be read is a row with its error.",
            (
                "TOOD-R50-1x images/ --output out/ --num-gpus 8 --batch-size 8",
                "output/my-run val.json --images images/ --output out/ --format coco",
            ),
            complete_args=complete_detect_dataset,
        ),
        Command(
            "serve",
            "Detect objects over HTTP, with a page to try it.",
            add_serve,
            "POST /detect takes an image and answers in JSON; / is a page for images and the\n"
            "camera; /healthz, /metrics and /model are for programs. Only programs on this\n"
            "machine can reach it, unless --host says otherwise. Needs the extra serve:\n"
            'pip install "tood-detectron2[serve]"',
            ("output/my-run", "model.onnx --host 0.0.0.0 --port 80 --rate-limit 10"),
        ),
        Command(
            "export",
            "Write a model to a verified ONNX, TorchScript, torch.export or OpenVINO file.",
            add_export,
            "The file takes any batch and size, and has NMS inside. Before it gets its name,\n"
            "its detections are matched one to one with the model's on at least 9 images, and\n"
            "what was compared is written to FILE.verify.json. The exit code is 0 for a verified\n"
            "file, 1 for one that differs, which is removed, and 2 for anything else.",
            (
                "TOOD-R50-1x --output tood.onnx",
                "output/my-run --output model.xml --images images/",
                "output/my-run --output model.onnx --precision int8 --calibration-images train/",
            ),
            complete_args=complete_export,
        ),
        Command(
            "info",
            "Print parameters and FLOPs by part (default: of the published models).",
            add_info,
            "One multiply-add of a convolution or matrix product is one FLOP; each bias adds one\n"
            "and each normalization two per element of its output. This is the paper's way: it\n"
            "gives the 100.79 G of Table 1 for T-head. Not counted: activations, pooling,\n"
            "upsampling, box decoding and the sampling of deformable convolutions. Parameters\n"
            "include those of frozen batch norms, as in MMDetection, but no running statistics.",
            ("TOOD-R50-1x --size 1333x800",),
        ),
        Command(
            "convert",
            "Convert a checkpoint to or from MMDetection's or the authors' names.",
            add_convert,
            "All commands read all layouts, so convert only for other programs or archiving.\n"
            "Values do not change: converting back and forth is bit-exact. Copies of the weights\n"
            "(EMA) and everything that is not a tensor are left out.",
            (
                "tood_r50_fpn_1x_coco.pth TOOD-R50-1x.pth",
                "output/my-run mmdet.pth --to mmdet",
            ),
        ),
        Command(
            "analyze",
            "Measure how well classification and localization agree (the paper's Table 6).",
            add_analyze,
            "AP is COCO's. PCC (rank correlation of scores and IoUs) and IoU are means over the\n"
            "GT boxes, before NMS; correct, redundant and wrong boxes are counted after it.\n"
            "tood.evaluation.AlignmentEvaluator has the exact definitions. detectron2's RetinaNet\n"
            "configs work too.",
            ("output/my-run --annotations val.json --images images/ --json table6.json",),
        ),
        Command(
            "visualize",
            "Draw scores and IoUs around GT boxes (the paper's Figure 1).",
            add_visualize,
            "For each GT box, IMAGE-gtN.png: detections, scores of its class, IoUs of all\n"
            "predicted boxes, and the best location of each task; one row per MODEL. For a T-head\n"
            "also IMAGE-head.png: layer attention, the map M and the offsets O.",
            ("output/my-run --annotations val.json --images images/ --output out/",),
            complete_args=validate_weights_count,
        ),
        Command(
            "report",
            "Write a page about detections: errors, curves, the worst images.",
            add_report,
            "RUN is the folder of a training run or an evaluation, which both write the same page\n"
            "at their end. Without it, the page is about results of any model in COCO's format.\n"
            "The page is one HTML file without scripts or links.",
            (
                "output/my-run",
                "--detections coco_instances_results.json --annotations val.json --images images/",
            ),
            complete_args=validate_report,
        ),
        Command(
            "quickstart",
            "Train a small model on synthetic shapes, in minutes on a CPU.",
            add_quickstart,
        ),
        Command(
            "check-data",
            "Check datasets: counts, sizes, and broken or duplicate images and boxes.",
            add_check_data,
            "Name the data as for tood train. Errors are what training or evaluation stops at or\n"
            "gets wrong, and test images that are training images too; warnings are what is\n"
            "probably not meant; notes are handled. Box sizes are those at the input size of the\n"
            "config; objects that contain no anchor point never get a positive. The exit code is\n"
            "0 without errors, 1 with errors, and 2 for data that cannot be read at all.",
            (
                "TOOD-R50-1x DATASETS.TRAIN_ANNOTATIONS a.json DATASETS.TRAIN_IMAGES images/",
                "output/my-run --output out/ --strict",
            ),
        ),
        Command(
            "show-batch",
            "Draw training batches after augmentation, with their ground truth.",
            add_show_batch,
            "Name the data as for tood train. With the same SEED, the batches are those of the\n"
            "training, mosaic and mix-up included. Each is one image, batch-ITERATION.png; crowds\n"
            "are dashed.",
            (
                "TOOD-R50-1x DATASETS.TRAIN_ANNOTATIONS a.json DATASETS.TRAIN_IMAGES images/",
                "output/my-run INPUT.MOSAIC.ENABLED True SEED 1 --num-batches 2",
            ),
        ),
        Command(
            "check-env",
            "Print versions, and run one forward and backward pass.",
            add_nothing,
        ),
        Command(
            "install-detectron2",
            "Install detectron2, which is on no package index.",
            install_detectron2.add_arguments,
        ),
    )
}
