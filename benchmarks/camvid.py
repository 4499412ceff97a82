"""Street scenes from 367 images: Atto with its own FCMAE pre-training against torchvision's models, in the same time.

    python benchmarks/camvid.py CAMVID IMAGENETTE --work FOLDER [--epochs 20] [--out FILE.md] [--json FILE]

Pre-trains Atto on the training images of both sets; trains `segment_small_data` from those weights and from random
ones; then trains torchvision's deeplabv3_mobilenet_v3_large and lraspp_mobilenet_v3_large, with random weights, for the
same wall-clock time as the first. They see the same augmented crops with the same weights of the classes, in
channels-last memory, under AdamW. All are measured on the validation images in the size of their label maps. A stage
whose result lies in FOLDER is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from small_sets import last_figures, once, pretrain, report, train_ours, train_peer
from timing import machine, write_result
from torch import Tensor, nn
from torchvision.models import segmentation

from convnext.data.sources.label_maps import IGNORED
from convnext.inference.segmenter import Segmenter
from convnext.models.segmentation.losses import segmentation_loss
from convnext.tasks.build import build_task
from convnext.tasks.registry import find_task
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.metrics import iou_metrics, segment_batches

MODEL = "convnextv2_atto"
NAMES = {
    "fcmae": "Atto, FCMAE",
    "scratch": "Atto, random weights",
    "deeplab": "torchvision, deeplabv3_mobilenet_v3_large",
    "lraspp": "torchvision, lraspp_mobilenet_v3_large",
}
FIGURES = ("mIoU", "mean_accuracy", "pixel_accuracy")
IGNORE = 11
CAMVID_REPEATS = 3  # of each of the 367 images beside Imagenette's 3,000 in pre-training


class Peer(nn.Module):
    """torchvision's model with our outputs."""

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        build = getattr(segmentation, f"{name}_mobilenet_v3_large")
        self.network = build(weights=None, weights_backbone=None, num_classes=classes)
        for layer in self.network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.1  # 0.01, as it comes, is for long training: the statistics lag behind (docs/log.md)
        self.network.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.contiguous(memory_format=torch.channels_last))["out"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("imagenette", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=20, help="of our segmenter's training; its time is everyone's")
    parser.add_argument("--pretrain-epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of torchvision's models")
    parser.add_argument("--arms", nargs="+", choices=list(NAMES), default=list(NAMES), help="what to train")
    parser.add_argument("--out", type=Path, help="write the tables as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    folders = {args.camvid / "images" / "train": CAMVID_REPEATS, args.imagenette / "train": 1}
    weights = pretrain(MODEL, folders, work, "--epochs", args.pretrain_epochs)

    def ours(name: str, *options: object) -> dict[str, Any]:
        looks = ("--epochs", args.epochs, "--eval-every", max(1, args.epochs // 4))
        options = ("--model", MODEL, "--ignore-index", IGNORE, *looks, *options)
        return train_ours("segment", args.camvid, work / name, FIGURES, "--recipe", "segment_small_data", *options)

    @cache
    def fcmae() -> dict[str, Any]:
        return once(work / "fcmae.json", lambda: ours("fcmae", "--init", weights))

    def peer(name: str) -> dict[str, Any]:
        given = {"model": MODEL, "ignore_index": IGNORE}
        task = build_task(find_task("segment"), str(args.camvid), work, given, "segment_small_data", resume=False)
        torch.manual_seed(0)
        model: Any = Peer(name, len(task.train.classes))

        def score() -> dict[str, float]:
            segmenter = Segmenter(model, task.train.classes, task.transform)
            return iou_metrics(segment_batches(segmenter, task.val_batches(segmenter)).matrix)

        return train_peer(
            model,
            task.train_loader(),
            lambda batch: segmentation_loss(
                model(batch.on("cpu")), batch.targets.long(), ignore_index=IGNORED, weights=task.weights
            ),
            score,
            optimizer=torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=SegmentConfig.weight_decay),
            clip=task.config.clip_grad or float("inf"),
            seconds=fcmae()["seconds"],
            looks=len(fcmae()["curve"]),
        )

    arms: dict[str, Callable[[], Any]] = {
        "fcmae": fcmae,
        "scratch": lambda: ours("scratch"),
        "deeplab": lambda: peer("deeplabv3"),
        "lraspp": lambda: peer("lraspp"),
    }
    curves = {NAMES[name]: once(work / f"{name}.json", arms[name])["curve"] for name in args.arms}
    lines = report(curves, FIGURES)
    print("\n".join(lines))
    if args.out:
        head = f"{machine()}; torch {torch.__version__.split('+')[0]}."
        text = ["# Street scenes from 367 images", "", head, "", "Command: `python benchmarks/camvid.py`.", ""]
        args.out.write_text("\n".join([*text, *lines, ""]))
    if args.json:
        columns, rows = last_figures(curves, FIGURES)
        title = "Street scenes from 367 images, in the same time"
        origin = {
            "seed": 0,
            "peers": ("torchvision",),
            "note": "torchvision's models have the seed 0, ours their recipe's.",
        }
        write_result(args.json, title=title, columns=columns, rows=rows, **origin)


if __name__ == "__main__":
    main()
