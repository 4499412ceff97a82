"""A detector for 200 images: Atto with its own FCMAE pre-training against torchvision's Mask R-CNN, in the same time.

    python benchmarks/nuclei.py NUCLEI IMAGENETTE --work FOLDER [--epochs 30] [--out FILE.md] [--json FILE]

Pre-trains Atto on the training images of both sets; trains `detect_small_data` from those weights and from random ones;
then trains torchvision's Mask R-CNN, with random weights, for the same wall-clock time as the first: on ResNet-50 and,
with heads as wide as ours, on ResNet-18. They see the same augmented images, with the same anchors and numbers of
regions, in channels-last memory, under `--optimizer`; they normalise by batches and learn with all their layers. All
are measured on the validation images by COCO's rules. torchvision draws its own masks, in boxes of whole pixels; what
they would reach if our code drew them stands beside. A stage whose result lies in FOLDER is not run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from small_sets import Curve, last_figures, once, pretrain, report, train_ours, train_peer
from timing import machine, write_result
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from convnext.data.images.whole_image import Size
from convnext.data.rle import from_mask
from convnext.inference.detector import Detector, Found, place
from convnext.models.detection.objects import Objects
from convnext.models.detection.rcnn import PYRAMID_STRIDES, Detections
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.metrics import KINDS, coco_eval, coco_metrics, detect_batches, percent
from convnext.tasks.detect.read import read_detection_data
from convnext.tasks.detect.task import Detection
from convnext.tasks.recipes import build_config

MODEL = "convnextv2_atto"
RECIPE = "detect_small_data"
NAMES = {
    "fcmae": "Atto, FCMAE",
    "scratch": "Atto, random weights",
    "resnet18": "torchvision, ResNet-18, heads as wide as ours",
    "resnet50": "torchvision, ResNet-50",
}
FIGURES = ("mask_AP50", "mask_AP", "mask_AP75", "box_AP50", "box_AP")
OURS = "drawn_by_ours_"
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
        sides = tuple((config.anchor_scale * stride,) for stride in PYRAMID_STRIDES)
        self.network = MaskRCNN(
            backbone,
            rpn_anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * len(sides)),
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            box_batch_size_per_image=config.rois_per_image,
            _skip_resize=True,  # in training; in evaluation the sizes are those of our transform
            min_size=config.test_size,
            max_size=config.max_side,
            **heads,
        ).to(memory_format=torch.channels_last)
        # Masks stay in their boxes, to be drawn by torchvision's code and by ours.
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


class PeerDetector(Detector):
    """Draws masks as torchvision does, and keeps the same objects as our code draws them."""

    drawn_by_ours: list[list[Found]]

    @torch.inference_mode()
    def find(self, inputs: list[Tensor], sizes: list[Size], *, least: float = 0.0) -> list[list[Found]]:
        answers = []
        for found, each, size in zip(self.model(inputs), inputs, sizes, strict=True):
            objects = list(place(found, (each.shape[1], each.shape[2]), size, least=least))
            self.drawn_by_ours.append(objects)
            boxes = torch.tensor([o.box for o in objects]).reshape(-1, 4)
            masks = paste_masks_in_image(found.masks[: len(objects), None], boxes, size)[:, 0] > 0.5
            answers.append([o._replace(mask=mask.numpy()) for o, mask in zip(objects, masks, strict=True)])
        return answers


def measure(model: Any, task: Detection) -> dict[str, float]:
    """The figures, and as `drawn_by_ours_...` those with our drawing of the masks."""
    detector = PeerDetector(model, task.val.classes, task.val.category_ids, task.transform)
    detector.drawn_by_ours = []
    results = detect_batches(detector, task.val_batches(detector), task.val)
    values: dict[str, float] = {}
    for name, kind in KINDS.items():
        values |= percent(coco_metrics(coco_eval(task.val, results, kind)), name)
    drawn = [o for objects in detector.drawn_by_ours for o in objects]
    ours = [row._replace(mask=from_mask(o.mask)) for row, o in zip(results, drawn, strict=True)]
    again = {**values, **percent(coco_metrics(coco_eval(task.val, ours, "segm")), "mask")}
    return {f"{prefix}{name}": each[name] for prefix, each in (("", values), (OURS, again)) for name in FIGURES}


def with_our_drawing(curve: Curve) -> Curve:
    """The same measurements with our drawing of the masks."""
    return [{**row, **{name: row[OURS + name] for name in FIGURES}} for row in curve]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nuclei", type=Path)
    parser.add_argument("imagenette", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10, help="of our detector's training; its time is everyone's")
    parser.add_argument("--pretrain-epochs", type=int, default=30)
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="adamw", help="of torchvision's models")
    parser.add_argument("--seed", type=int, default=0, help="of the detectors' training")
    parser.add_argument("--arms", nargs="+", choices=list(NAMES), default=list(NAMES), help="what to train")
    parser.add_argument("--out", type=Path, help="write the tables as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    folders = {args.nuclei / "train": NUCLEI_REPEATS, args.imagenette / "train": 1}
    weights = pretrain(MODEL, folders, work, "--crop-scale", "0.1,0.6", "--epochs", args.pretrain_epochs)

    def ours(name: str, *options: object) -> dict[str, Any]:
        options = ("--model", MODEL, "--recipe", RECIPE, "--epochs", args.epochs, "--seed", args.seed, *options)
        return train_ours("detect", args.nuclei, work / name, FIGURES, *options)

    @cache
    def fcmae() -> dict[str, Any]:
        return once(work / "fcmae.json", lambda: ours("fcmae", "--init", weights))

    def peer(depth: int) -> dict[str, Any]:
        config = build_config(RECIPE, MODEL, DetectConfig).override({"seed": args.seed, "data": str(args.nuclei)})
        train, val, origin, _ = read_detection_data(config)
        task = Detection(config, train, val, origin)
        torch.manual_seed(args.seed)
        model = Peer(depth, config)
        return train_peer(
            model,
            task.train_loader(),
            lambda batch: torch.stack(list(model(batch.images, batch.objects).values())).sum(),
            lambda: measure(model, task),
            optimizer=optimizer_of(args.optimizer, model),
            clip=config.clip_grad or float("inf"),
            seconds=fcmae()["seconds"],
            looks=len(fcmae()["curve"]),
        )

    arms: dict[str, Callable[[], Any]] = {
        "fcmae": fcmae,
        "scratch": lambda: ours("scratch"),
        "resnet18": lambda: peer(18),
        "resnet50": lambda: peer(50),
    }
    curves: dict[str, Curve] = {}
    for name in args.arms:
        curves[NAMES[name]] = curve = once(work / f"{name}.json", arms[name])["curve"]
        if OURS + FIGURES[0] in curve[0]:
            curves[f"{NAMES[name]}, masks drawn by our code"] = with_our_drawing(curve)
    lines = report(curves, FIGURES)
    print("\n".join(lines))
    if args.out:
        head = f"{machine()}; torch {torch.__version__.split('+')[0]}; torchvision's models under {args.optimizer}."
        options = f"--epochs {args.epochs} --pretrain-epochs {args.pretrain_epochs} --seed {args.seed}"
        command = f"Command: `python benchmarks/nuclei.py NUCLEI IMAGENETTE {options}`."
        text = ["# A detector for 200 images of nuclei", "", head, "", command, ""]
        args.out.write_text("\n".join([*text, *lines, ""]))
    if args.json:
        columns, rows = last_figures(curves, FIGURES)
        title = "A detector for 200 images of nuclei, in the same time"
        origin = {"seed": args.seed, "peers": ("torchvision",), "note": "The last measurement of each."}
        write_result(args.json, title=title, columns=columns, rows=rows, **origin)


if __name__ == "__main__":
    main()
