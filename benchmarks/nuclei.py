"""A detector for 200 images: Atto with its own FCMAE pre-training against torchvision's Mask R-CNN, in the same time.

    python benchmarks/nuclei.py NUCLEI IMAGENETTE --work FOLDER [--epochs 30] [--out FILE.md]

Pre-trains Atto on the training images of both sets; trains `detect_small_data` from those weights and from random ones;
then trains torchvision's Mask R-CNN, with random weights, for the same wall-clock time as the first: on ResNet-50 and,
with heads as wide as ours, on ResNet-18. They see the same augmented images, with the same anchors and numbers of
regions, in channels-last memory, under `--optimizer`; they normalise by batches and learn with all their layers. All
are measured on the validation images by COCO's rules. A stage whose result lies in FOLDER is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from timing import machine
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from convnext.config import DetectConfig
from convnext.data.annotated import Objects
from convnext.data.coco import read_annotated
from convnext.deploy.detector import Detector
from convnext.evaluate.coco_ap import KINDS, coco_eval, detect, figures
from convnext.models.rcnn import STRIDES, Detections
from convnext.recipes import build_config
from convnext.tasks.detect import Detection

MODEL = "convnextv2_atto"
NAMES = {
    "fcmae": "Atto, FCMAE",
    "scratch": "Atto, random weights",
    "resnet18": "torchvision, ResNet-18, heads as wide as ours",
    "resnet50": "torchvision, ResNet-50",
}
NUCLEI_REPEATS = 5  # of each of the 200 images beside Imagenette's 3,000 in pre-training


class Peer(nn.Module):
    """torchvision's Mask R-CNN with our inputs and outputs."""

    def __init__(self, depth: int, config: DetectConfig) -> None:
        super().__init__()
        backbone: Any = resnet_fpn_backbone(
            backbone_name=f"resnet{depth}", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
        )
        heads: dict[str, Any] = {"num_classes": 2}
        if depth == 18:
            dim, linear = config.fpn_dim, config.linear_dim
            backbone.fpn = FeaturePyramidNetwork([64, 128, 256, 512], dim, LastLevelMaxPool())
            backbone.out_channels = dim
            heads = {
                "box_head": TwoMLPHead(dim * 7 * 7, linear),
                "box_predictor": FastRCNNPredictor(linear, 2),
                "mask_head": MaskRCNNHeads(dim, (dim,) * config.mask_convs, 1),
                "mask_predictor": MaskRCNNPredictor(dim, dim, 2),
            }
        sides = tuple((config.anchor_scale * stride,) for stride in STRIDES)
        self.network = MaskRCNN(
            backbone,
            rpn_anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * len(sides)),
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            box_batch_size_per_image=config.regions,
            _skip_resize=True,  # in training; in evaluation the sizes are those of our transform
            min_size=config.test_short,
            max_size=config.max_side,
            **heads,
        ).to(memory_format=torch.channels_last)
        # Masks stay in their boxes, for the same code to draw them as draws ours.
        self.network.transform.postprocess = lambda result, sizes, originals: result

    def forward(self, images: list[Tensor], objects: list[Objects] | None = None) -> Any:
        if objects is not None:
            targets = [{"boxes": o.boxes, "labels": o.labels + 1, "masks": o.masks} for o in objects]
            return self.network(images, targets)
        found = self.network(images)
        return [Detections(f["boxes"], f["scores"], f["labels"] - 1, f["masks"][:, 0]) for f in found]


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """torchvision's reference (0.02 at a batch of 16), or AdamW."""
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=5e-3, momentum=0.9, weight_decay=1e-4)
    return torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)


def train_peer(depth: int, optimizer_name: str, task: Detection, seconds: float, looks: int) -> dict[str, Any]:
    """Figures after each of `looks` parts of the time, evaluations included."""
    torch.manual_seed(0)
    model = Peer(depth, task.config)
    optimizer = optimizer_of(optimizer_name, model)
    rates = [group["lr"] for group in optimizer.param_groups]
    loader: Any = task.train_loader()
    curve: list[dict[str, float]] = []
    start, step, epoch = time.perf_counter(), 0, 0
    evaluation = 0.0  # seconds the last one took, so that the one at the end lies within the time
    while True:
        loader.set_epoch(epoch)
        for batch in loader:
            passed = (time.perf_counter() - start) / (seconds - evaluation)
            if passed >= (len(curve) + 1) / looks:
                before = time.perf_counter()
                curve.append({"minutes": (before - start) / 60, "epochs": epoch, **measure(model, task)})
                evaluation = time.perf_counter() - before
                print(f"resnet{depth} {optimizer_name}: {curve[-1]}", flush=True)
                if len(curve) == looks:
                    return {"seconds": seconds, "curve": curve}
                model.train()
            factor = min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.zero_grad()
            loss = torch.stack(list(model(batch.images, batch.objects).values())).sum()
            if not loss.isfinite():
                raise SystemExit(f"resnet{depth} with {optimizer_name}: loss {loss.item()} in step {step}")
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), task.config.clip_grad or math.inf)
            optimizer.step()
            step += 1
        epoch += 1


def measure(model: nn.Module, task: Detection) -> dict[str, float]:
    detector: Any = Detector(model, task.val.classes, task.val.category_ids, task.transform)  # type: ignore[arg-type]
    results = detect(detector, task.val_loader(), task.val)
    values: dict[str, float] = {}
    for name, kind in KINDS.items():
        found = figures(coco_eval(task.val, results, kind))
        values |= {f"{name}_{figure}": round(100 * found[figure], 2) for figure in ("AP", "AP50", "AP75")}
    return values


def convnext(*arguments: object) -> float:
    """Run a command of ours; seconds it took."""
    start = time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("convnext"), *map(str, arguments)], check=True)
    return time.perf_counter() - start


def pretrain(nuclei: Path, imagenette: Path, work: Path, epochs: int) -> Path:
    """FCMAE on the training images of both sets."""
    run, images = work / "pretrained", work / "images"
    if (run / "model.safetensors").exists():
        return run
    if not images.exists():
        for repeat in range(NUCLEI_REPEATS):
            shutil.copytree(nuclei / "train", images / f"nuclei-{repeat}")
        shutil.copytree(imagenette / "train", images / "imagenette")
    options = ("--model", MODEL, "--image-size", 128, "--crop-scale", "0.1,0.6", "--epochs", epochs, "--resume", "auto")
    convnext("pretrain", images, "--out", run, *options)
    return run


def once(path: Path, run: Callable[[], Any]) -> Any:
    """What `run` returns, kept in a file."""
    if not path.exists():
        path.write_text(json.dumps(run()))
    return json.loads(path.read_text())


def train_ours(data: Path, run: Path, epochs: int, *options: object) -> dict[str, Any]:
    """Seconds and the figures of each evaluation; `minutes` are from the start of the command to its end."""
    command = ("train", "detect", data, "--model", MODEL, "--recipe", "detect_small_data", "--epochs", epochs)
    seconds = convnext(*command, "--out", run, "--overwrite", *options)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    spent, curve = seconds - sum(row["seconds"] for row in rows), []
    for row in rows:
        spent += row["seconds"]
        if "mask_AP50" in row:
            kept = {name: row[name] for name in row if name.startswith(("mask_AP", "box_AP"))}
            curve.append({"minutes": spent / 60, "epochs": row["epoch"], **kept})
    return {"seconds": seconds, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nuclei", type=Path)
    parser.add_argument("imagenette", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=30, help="of our detector's training; its time is everyone's")
    parser.add_argument("--pretrain-epochs", type=int, default=30)
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="adamw", help="of torchvision's models")
    parser.add_argument("--arms", nargs="+", choices=list(NAMES), default=list(NAMES), help="what to train")
    parser.add_argument("--out", type=Path, help="write the tables as markdown too")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    weights = pretrain(args.nuclei, args.imagenette, work, args.pretrain_epochs)

    @cache
    def own() -> dict[str, Any]:
        return once(
            work / "fcmae.json", lambda: train_ours(args.nuclei, work / "fcmae", args.epochs, "--init", weights)
        )

    def peer(depth: int) -> dict[str, Any]:
        return train_peer(depth, args.optimizer, task, own()["seconds"], len(own()["curve"]))

    splits = read_annotated(str(args.nuclei), val_fraction=DetectConfig.val_fraction)
    config = build_config("detect_small_data", MODEL, DetectConfig).override({"data": str(args.nuclei)})
    task = Detection(config, splits.train, splits.val)
    arms: dict[str, Callable[[], Any]] = {
        "fcmae": own,
        "scratch": lambda: train_ours(args.nuclei, work / "scratch", args.epochs),
        "resnet18": lambda: peer(18),
        "resnet50": lambda: peer(50),
    }
    curves = {name: once(work / f"{name}.json", arms[name])["curve"] for name in args.arms}
    lines = report(curves)
    print("\n".join(lines))
    if args.out:
        head = f"{machine()}; torch {torch.__version__.split('+')[0]}; {own()['seconds'] / 60:.1f} minutes of training"
        command = f"Command: `python benchmarks/nuclei.py NUCLEI IMAGENETTE --work FOLDER --epochs {args.epochs}`."
        args.out.write_text(
            "\n".join(["# A detector for 200 images of nuclei", "", f"{head}.", "", command, "", *lines, ""])
        )


def report(curves: dict[str, list[dict[str, float]]]) -> list[str]:
    """The last figures of each, and mask AP50 over time."""
    names = ("mask_AP50", "mask_AP", "mask_AP75", "box_AP50", "box_AP")
    lines = ["| model | minutes | epochs | " + " | ".join(names) + " |", "|" + "---|" * (3 + len(names))]
    for model, curve in curves.items():
        last = curve[-1]
        values = " | ".join(f"{last[name]:.1f}" for name in names)
        lines.append(f"| {NAMES[model]} | {last['minutes']:.1f} | {last['epochs']:.0f} | {values} |")
    lines += ["", "Mask AP50 after so many minutes:", ""]
    for model, curve in curves.items():
        points = ", ".join(f"{point['minutes']:.1f}: {point['mask_AP50']:.1f}" for point in curve)
        lines.append(f"- {NAMES[model]}: {points}")
    return lines


if __name__ == "__main__":
    main()
