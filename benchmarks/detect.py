"""Speed of finding objects: V1-Tiny Mask R-CNN against torchvision's maskrcnn_resnet50_fpn, per multiply-add.

    python benchmarks/detect.py [--repeats 7] [--device cuda] [--out FILE.md] [--json FILE]

Both have 80 classes and random weights, and see the same normalised image, one at a time, at 800×1333 and 512×512;
torchvision is told that size, and resizes nothing. Their class layers are set so that each keeps 100 objects, as a
trained detector does in a full image, and the mask heads work on those. Ours runs eager, and with its backbone
compiled; torchvision's eager, and with its backbone and pyramid compiled, in channels-last memory. Calls alternate;
medians.
Where the time goes: backbone and pyramid, proposals, box stage, masks, each timed alone. With --json, those times are
in FILE_parts.json.
"""

from __future__ import annotations

import argparse
import itertools
import math
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from tables import table
from timing import machine, medians, say, write_result
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import maskrcnn_resnet50_fpn

from convnext.models.detection.rcnn import RCNN, create_detector

SIZES = ((800, 1333), (512, 512))
CLASSES = 80
COLUMNS: list[dict] = [
    {"name": "image"},
    {"name": "how", "head": ""},
    {"name": "G multiply-adds", "digits": 0},
    {"name": "objects"},
    {"name": "ms", "digits": 0},
    {"name": "ms a G", "digits": 2},
    {"name": "× torchvision", "digits": 2},
]
PARTS: list[dict] = [
    {"name": "image"},
    {"name": "backbone and pyramid, ms", "digits": 0},
    *({"name": name, "digits": 0} for name in ("proposals", "boxes", "masks")),
]


def ours(compiled: bool) -> RCNN:
    torch.manual_seed(0)
    model = create_detector("convnext_tiny", num_classes=CLASSES).eval()
    model.requires_grad_(False)
    raise_scores(model.box_stages[0].head.classify, background=0)
    if compiled:
        model.backbone.compile()
    return model


def theirs(compiled: bool, size: tuple[int, int]) -> nn.Module:
    torch.manual_seed(0)
    model = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES + 1,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        min_size=min(size),  # what the image has: it is not resized
        max_size=max(size),
    ).eval()
    model.requires_grad_(False)
    raise_scores(model.roi_heads.box_predictor.cls_score, background=0)
    model.backbone.to(memory_format=torch.channels_last)
    if compiled:
        model.backbone.compile()
    return model


def raise_scores(classify: nn.Linear, background: int) -> None:
    """Make every region an object of some class, so that a hundred are kept."""
    nn.init.normal_(classify.weight, std=0.2)
    nn.init.zeros_(classify.bias)
    classify.bias[background] = -20.0


def mlp_flops(x: Sequence[int], w1: Sequence[int], *_: object, **__: object) -> int:
    """Of shapes `[N, P, C]` and `[4C, C]`."""
    return 2 * 2 * math.prod(x) * w1[0]


def multiply_adds(run: Callable[[], object]) -> float:
    """Billions."""
    # Our blocks' two linear layers are one operator, which the counter does not know.
    own: dict[Any, Any] = {torch.ops.convnext.mlp_forward: mlp_flops}
    with FlopCounterMode(display=False, custom_mapping=own) as counter:
        run()
    return counter.get_total_flops() / 2e9


def parts(model: RCNN, image: Tensor, repeats: int) -> list[float]:
    """Milliseconds of backbone and pyramid, proposals, box stage with selection, masks."""
    taken: list[list[float]] = []
    for _ in range(repeats):
        marks = [time.perf_counter()]
        groups = model.grouped([image])
        _, batch, features = groups[0]
        marks.append(time.perf_counter())
        proposed = model.rpn.propose(model.rpn(batch, list(features.values())), batch.image_sizes)
        marks.append(time.perf_counter())
        heads, model.mask_heads = model.mask_heads, nn.ModuleList()
        found = model.detect(groups, [own.boxes for own in proposed], batch.image_sizes)
        model.mask_heads = heads
        marks.append(time.perf_counter())
        model.mask_heads[0](model.pooled(model.mask_pool, groups, [found[0].boxes])).sigmoid()
        marks.append(time.perf_counter())
        taken.append([b - a for a, b in itertools.pairwise(marks)])
    return [1e3 * sorted(column)[repeats // 2] for column in zip(*taken, strict=True)]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="write the tables as markdown too")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    head = f"{machine()}; {args.threads} threads; {platform.system()}, Python {platform.python_version()}, torch "
    head += f"{torch.__version__.split('+')[0]}, torchvision {torchvision.__version__.split('+')[0]}; medians of "
    head += f"{args.repeats} alternating calls"
    print(head, flush=True)
    rows: list[list] = []
    stages: list[list] = []
    for size in SIZES:
        image = torch.randn(3, *size, device=args.device)
        for compiled in (False, True):
            torch._dynamo.reset()
            mine, peer = ours(compiled).to(args.device), theirs(compiled, size).to(args.device)
            runs = [partial(mine, [image]), partial(peer, [image])]
            counts = [len(mine([image])[0].boxes), len(peer([image])[0]["boxes"])]
            eager = [ours(False).to(args.device), theirs(False, size).to(args.device)]
            work = [multiply_adds(partial(model, [image])) for model in eager]
            times = medians(runs, args.repeats)
            for name, g, count, ms in zip(("convnext", "torchvision"), work, counts, times, strict=True):
                ratio = times[1] / work[1] / (ms / g) if name == "convnext" else None
                how = f"{name}, {'compiled' if compiled else 'eager'}"
                rows.append([f"{size[0]}×{size[1]}", how, g, count, ms, ms / g, ratio])
                say(COLUMNS, rows)
        figures = parts(ours(False).to(args.device), image, args.repeats)
        stages.append([f"{size[0]}×{size[1]}, eager", *figures])
    print("", *table(PARTS, stages), sep="\n")
    if args.out:
        text = ["# Speed of finding objects", "", f"{head}.", "", "Command: `python benchmarks/detect.py`.", ""]
        args.out.write_text("\n".join([*text, *table(COLUMNS, rows), "", *table(PARTS, stages), ""]))
    if args.json:
        title = "Speed of finding objects: Mask R-CNN against torchvision's"
        origin = {"peers": ("torchvision",), "note": head}
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, **origin)
        path = args.json.with_stem(f"{args.json.stem}_parts")
        write_result(path, title="Where the time of finding objects goes", columns=PARTS, rows=stages, **origin)


if __name__ == "__main__":
    main()
