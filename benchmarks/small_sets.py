"""What the benchmarks of training on small sets share: our commands, and peers that are given the same time."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from tables import table
from torch import Tensor, nn

Curve = list[dict[str, float]]
"""Figures with `minutes` and `epochs`, one row a measurement."""


def convnext(*arguments: object) -> float:
    """Run a command of ours; seconds it took."""
    start = time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("convnext"), *map(str, arguments)], check=True)
    return time.perf_counter() - start


def once(path: Path, run: Callable[[], Any]) -> Any:
    """What `run` returns, kept in a file."""
    if not path.exists():
        path.write_text(json.dumps(run()))
    return json.loads(path.read_text())


def pretrain(model: str, folders: dict[Path, int], work: Path, *options: object) -> Path:
    """FCMAE on the images of all folders, of each so many times; the run."""
    run, images = work / "pretrained", work / "images"
    if (run / "model.safetensors").exists():
        return run
    if not images.exists():
        for number, (folder, repeats) in enumerate(folders.items()):
            for repeat in range(repeats):
                shutil.copytree(folder, images / f"{number}-{repeat}")
    convnext("pretrain", images, "--model", model, "--image-size", 128, "--out", run, "--resume", "auto", *options)
    return run


def alone(run: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `run` returns in a process of its own, and the most memory it or a command of its took, in MB."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(with_memory, run, *arguments).result()


def with_memory(run: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `run` returns, and this process's memory, or its largest child's, where that is more."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    found = run(*arguments)
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {**found, "memory_mb": most * 1024 / 1e6}


def train_ours(task: str, data: Path, run: Path, figures: Sequence[str], *options: object) -> dict[str, Any]:
    """Seconds from the command's start to its end, the figures of each evaluation, and images a second of training."""
    seconds = convnext("train", task, data, "--out", run, "--overwrite", *options)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    spent, curve = seconds - sum(row["seconds"] for row in rows), []
    for row in rows:
        spent += row["seconds"]
        if figures[0] in row:
            curve.append({"minutes": spent / 60, "epochs": row["epoch"], **{name: row[name] for name in figures}})
    speed = sum(row["images_per_second"] * row["seconds"] for row in rows) / sum(row["seconds"] for row in rows)
    return {"seconds": seconds, "curve": curve, "images_per_second": speed}


def train_peer(
    model: nn.Module,
    loader: Any,
    loss_of: Callable[[Any], Tensor],
    measure: Callable[[], dict[str, float]],
    *,
    optimizer: torch.optim.Optimizer,
    clip: float,
    seconds: float,
    looks: int,
) -> dict[str, Any]:
    """Train for a time, a short warm-up and then a cosine over it; figures after each of `looks` parts of it.

    The measurements lie within the time. Images a second are of training alone.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    curve: Curve = []
    start, step, epoch, measuring, images = time.perf_counter(), 0, 0, 0.0, 0
    while True:
        loader.set_epoch(epoch)
        for batch in loader:
            passed = (time.perf_counter() - start) / (seconds - measuring)
            if passed >= (len(curve) + 1) / looks:
                before = time.perf_counter()
                found = measure()
                measuring = time.perf_counter() - before
                curve.append({"minutes": (time.perf_counter() - start) / 60, "epochs": epoch, **found})
                print(curve[-1], flush=True)
                if len(curve) == looks:
                    speed = images / (seconds - looks * measuring)
                    return {"seconds": seconds, "curve": curve, "images_per_second": speed}
            model.train()
            factor = min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * min(1.0, passed)))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.zero_grad()
            loss = loss_of(batch)
            if not loss.isfinite():
                raise SystemExit(f"loss {loss.item()} in step {step}")
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            step += 1
            images += len(batch.indices)
        epoch += 1


def last_figures(curves: dict[str, Curve], figures: Sequence[str]) -> tuple[list[dict], list[list]]:
    """Columns and rows of each model's last measurement."""
    names = ("minutes", "epochs", *figures)
    columns = [{"name": "model"}, *({"name": name, "digits": 0 if name == "epochs" else 1} for name in names)]
    return columns, [[model, *(curve[-1][name] for name in names)] for model, curve in curves.items()]


def plot(curves: dict[str, Curve], figure: str, path: Path) -> None:
    """Draw a figure over the minutes, a line for each model."""
    picture = Figure(figsize=(7, 4))
    axes = picture.subplots()
    for name, curve in curves.items():
        axes.plot([point["minutes"] for point in curve], [point[figure] for point in curve], marker=".", label=name)
    axes.set(xlabel="minutes", ylabel=figure)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    picture.savefig(path, dpi=150, bbox_inches="tight")


def report(curves: dict[str, Curve], figures: Sequence[str]) -> list[str]:
    """The last figures of each, and the first figure over time."""
    lines = [*table(*last_figures(curves, figures)), "", f"{figures[0]} after so many minutes:", ""]
    for name, curve in curves.items():
        lines.append(f"- {name}: " + ", ".join(f"{point['minutes']:.1f}: {point[figures[0]]:.1f}" for point in curve))
    return lines
