"""Classification of few images in equal minutes on one core: ours against timm's networks, all from random weights.

    python benchmarks/small_classification.py IMAGENETTE --work FOLDER [--minutes 10] [--per-class 300] [--core 0]
        [--arms scratch fcmae ...] [--rates 1e-3 3e-3 9e-3] [--seeds 0 1 2] [--precision bf16] [--json FILE]
        [--plot FILE]

Every arm has one core and the same wall-clock time, from the command's start to its end: `small_data` from random
weights, the same after `fcmae_small_data` on the same images within that time, and timm's networks, each at some
learning rates, of which the best in the mean of the seeds counts. Peers see the batches of our loader (crops, flips,
smoothing of `small_data`) at 128 pixels, compiled where that pays, in channels-last memory, under AdamW. All are
measured on the validation images, which are used for nothing else here. An arm whose result lies in FOLDER is not run
again. Memory is the training process's, without the loading one's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from small_sets import alone, convnext, once, plot, report, train_ours, train_peer
from tables import Column
from timing import machine, write_result
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from convnext.data.sources.image_files import find_images
from convnext.tasks.build import build_task
from convnext.tasks.registry import find_task

MODEL, SIDE, BATCH = "convnextv2_atto", 128, 64
PRETRAINING = 0.5
"""Share of the time that FCMAE takes in the arm that has it."""
PEERS = {
    "resnet18": "timm, ResNet-18",
    "efficientnet_b0": "timm, EfficientNet-B0",
    "deit_tiny_patch16_224": "timm, DeiT-tiny",
    "convnextv2_atto": "timm, ConvNeXt V2 Atto",
}
UNCOMPILED = ("efficientnet_b0",)
"""Peers that train without the compiler, which takes five minutes of one core for them."""
NAMES = {"scratch": "Atto, random weights", "fcmae": "Atto, FCMAE within the time", **PEERS}
RATES = (1e-3, 3e-3, 9e-3)
LOOKS = 4
COLUMNS: list[Column] = [
    {"name": "model"},
    {"name": "top-1, mean", "digits": 1},
    {"name": "of each seed"},
    {"name": "images/s, training", "digits": 0},
    {"name": "million multiply-adds at 128 pixels", "digits": 0},
    {"name": "memory, MB", "digits": 0},
]
OURS = ("--model", MODEL, "--image-size", SIDE, "--workers", 1)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def part_of(data: Path, per_class: int, work: Path) -> Path:
    """The data with the first so many training images of each class, by name."""
    part = work / f"data-{per_class}"
    if not part.exists():
        for folder in sorted((data / "train").iterdir()):
            for path in sorted(find_images(folder))[:per_class]:
                (part / "train" / folder.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, part / "train" / folder.name)
        shutil.copytree(data / "val", part / "val")
    return part


def train_with_pretraining(data: Path, run: Path, hours: float, given: Sequence[object]) -> dict[str, Any]:
    """FCMAE for a part of the time, then classification; minutes count from the first command's start."""
    before = run.with_name(f"{run.name}-pretrained")
    spent = convnext(
        "pretrain", data / "train", "--out", before, "--hours", hours * PRETRAINING, "--overwrite", *OURS, *given
    )
    rest = ("--hours", hours - spent / 3600, "--init", before)
    found = train_ours("classify", data, run, ("top1",), "--recipe", "small_data", *rest, *OURS, *given)
    curve = [{**point, "minutes": point["minutes"] + spent / 60} for point in found["curve"]]
    return {**found, "seconds": found["seconds"] + spent, "curve": curve}


def train_scratch(data: Path, run: Path, hours: float, given: Sequence[object]) -> dict[str, Any]:
    """Classification from random weights."""
    return train_ours("classify", data, run, ("top1",), "--recipe", "small_data", "--hours", hours, *OURS, *given)


def multiply_adds(name: str) -> float:
    """Of an image, in millions."""
    model = timm.create_model(name, **size_of(name)).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, SIDE, SIDE))
    return counter.get_total_flops() / 2e6


def size_of(name: str) -> dict[str, int]:
    """What a network of timm's must be told for our images."""
    return {"img_size": SIDE} if name.startswith("deit") else {}


def train_timm(
    name: str, rate: float, data: Path, work: Path, seconds: float, seed: int, precision: str
) -> dict[str, Any]:
    """A network of timm's, from random weights, on our batches."""
    given = {"model": MODEL, "image_size": SIDE, "batch_size": BATCH, "workers": 1, "seed": seed}
    task: Any = build_task(find_task("classify"), str(data), work, given, "small_data", resume=False)
    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=len(task.train.classes), **size_of(name)).to(
        memory_format=torch.channels_last
    )
    compiled: Any = model if name in UNCOMPILED else torch.compile(model)
    seen = [task.preprocessing(task.val.open(i, task.preprocessing.mode, 65535)) for i in range(len(task.val))]
    truth = torch.tensor(task.val.targets)

    def logits(images: Tensor) -> Tensor:
        with torch.autocast("cpu", PRECISIONS[precision], enabled=precision != "fp32"):
            return compiled(images.contiguous(memory_format=torch.channels_last)).float()

    @torch.no_grad()
    def score() -> dict[str, float]:
        model.eval()
        right = sum(
            int((logits(torch.stack(seen[i : i + 100])).argmax(-1) == truth[i : i + 100]).sum())
            for i in range(0, len(seen), 100)
        )
        return {"top1": 100 * right / len(seen)}

    return train_peer(
        model,
        task.train_loader(),
        lambda batch: F.cross_entropy(logits(batch.on("cpu")), batch.targets, label_smoothing=0.1),
        score,
        optimizer=torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05),
        clip=float("inf"),
        seconds=seconds,
        looks=LOOKS,
    )


def last_top1(run: dict[str, Any]) -> float:
    """Of the end of the training."""
    return run["curve"][-1]["top1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("imagenette", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--per-class", type=int, default=300)
    parser.add_argument("--core", type=int, default=0, help="the core that everything runs on")
    parser.add_argument("--arms", nargs="+", choices=list(NAMES), default=list(NAMES), help="what to train")
    parser.add_argument("--rates", nargs="+", type=float, default=RATES, help="learning rates of timm's networks")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--precision", choices=list(PRECISIONS), default="bf16")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    parser.add_argument("--plot", type=Path, help="draw top-1 over the minutes")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    data, hours = part_of(args.imagenette, args.per_class, args.work), args.minutes / 60
    seeded = [(f"{args.per_class}-{args.minutes:g}-{args.precision}-{seed}", seed) for seed in args.seeds]

    def ours(name: str) -> list[dict[str, Any]]:
        train = train_with_pretraining if name == "fcmae" else train_scratch

        def learn(part: str, seed: int) -> dict[str, Any]:
            given = ("--precision", args.precision, "--seed", seed)
            return once(
                args.work / f"{part}-{name}.json",
                lambda: alone(train, data, args.work / f"{part}-{name}", hours, given),
            )

        return [learn(part, seed) for part, seed in seeded]

    def peer(name: str) -> list[dict[str, Any]]:
        def learn(rate: float, part: str, seed: int) -> dict[str, Any]:
            given = (name, rate, data, args.work, 60 * args.minutes, seed, args.precision)
            return once(args.work / f"{part}-{name}-{rate:g}.json", lambda: alone(train_timm, *given))

        found = [[learn(rate, part, seed) for part, seed in seeded] for rate in args.rates]
        return max(found, key=lambda runs: statistics.mean(map(last_top1, runs)))

    arms = {name: peer(name) if name in PEERS else ours(name) for name in args.arms}
    curves = {NAMES[name]: runs[0]["curve"] for name, runs in arms.items()}
    print("\n".join(report(curves, ("top1",))))
    if args.plot:
        plot(curves, "top1", args.plot)
    if args.json:
        rows = [
            [
                NAMES[name],
                statistics.mean(map(last_top1, runs)),
                ", ".join(f"{last_top1(run):.1f}" for run in runs),
                statistics.mean(run["images_per_second"] for run in runs),
                multiply_adds(name if name in PEERS else MODEL),
                max(run["memory_mb"] for run in runs),
            ]
            for name, runs in arms.items()
        ]
        title = f"Imagenette, {args.per_class} images a class, {args.minutes:g} minutes of one core"
        write_result(
            args.json, title=title, columns=COLUMNS, rows=rows, seed=args.seeds, peers=("timm",), note=machine()
        )


if __name__ == "__main__":
    main()
