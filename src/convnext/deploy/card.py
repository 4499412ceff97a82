"""`convnext card`: the speed of a run's model on this machine, and its card anew."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from convnext.cores import usable_cores
from convnext.deploy import benchmark_row
from convnext.deploy.export.verify import made_up_images
from convnext.deploy.own_process import run_apart
from convnext.errors import InputError
from convnext.inference.base import BATCH
from convnext.inference.detector import Detector
from convnext.runs.directory import Run, is_run
from convnext.runs.environment import processor
from convnext.runs.facts import add_facts
from convnext.tasks.card.write import write_card
from convnext.tasks.load import load

MOST_TIMING = 8.0
"""Time for timing images one by one, and again for batches, at most."""


def rebuild_card(path: Path, *, speed: bool) -> Path:
    """Write a run's card anew; returns its file. `speed` measures the model on this machine first.

    `InputError` for a folder that is no run, a run that has not ended, or an `about.yaml` that cannot be read.
    """
    if not is_run(path):
        raise InputError(f"{path} is not a run")
    run = Run(path)
    if not (path / "result.json").is_file() or not run.weights.is_file():
        raise InputError(f"{path} has not ended: a card is written at the end; continue it with --resume")
    if speed:
        add_facts(run, {"speed": measure_speed(path)})
    write_card(run)
    return path / "README.md"


def measure_speed(source: Path) -> dict[str, Any]:
    """Latency, images a second and memory of a model in fp32 on the CPU, in a process of its own, in 20 seconds at most
    beside its start."""
    predictor, threads = load(source, device="cpu", backend="torch"), len(usable_cores())
    batches = [1] if isinstance(predictor, Detector) else [1, BATCH]
    seen = [predictor.transform(image) for image in made_up_images(batches[-1], predictor.transform.mode)]
    job = benchmark_row.MeasuredRow(str(source), "torch", "fp32", batches, threads, None, None, MOST_TIMING)
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name) / benchmark_row.INPUTS, np.stack([image.numpy() for image in seen]))
        found = run_apart(benchmark_row.__name__, job, Path(name), threads)
    wanted = {name: found.get(name) for name in ("latency_ms", "images_per_s", "memory_mb")}
    if wanted["images_per_s"] is None:
        long = f"two batches would take longer than the {MOST_TIMING:g} seconds that a card may"
        wanted["batches"] = "images are computed one by one" if len(batches) == 1 else long
    return {**wanted, "threads": threads, "processor": processor()}
