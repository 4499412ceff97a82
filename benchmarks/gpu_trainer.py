"""What `gpu.py` measures of the trainer, and of the loader that feeds it."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_kernels import Row, Sizes, guarded
from PIL import Image
from timing import kernels

from convnext.data.augment.transforms import train_transform
from convnext.data.image_set import read_images
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import train_loader
from convnext.data.shards.pack import pack_shards
from convnext.runs.directory import Run
from convnext.tasks.build import build_task
from convnext.tasks.registry import find_task
from convnext.train.cuda_graph import BEFORE
from convnext.train.trainer import Trainer


def draw(place: tuple[Path, int]) -> None:
    """One JPEG file of 500×375 pixels, of about the bytes that a photograph has."""
    path, seed = place
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8)).resize((500, 375), Image.BICUBIC)
    noise = random.normal(0, 12, (375, 500, 3))
    Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).save(path, quality=90)


@contextlib.contextmanager
def photographs(sizes: Sizes) -> Iterator[Path]:
    """Inside, a folder of JPEG files in two classes, of which a thousand differ."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
        files = [(root / "ab"[i % 2] / f"{i}.jpg", i) for i in range(min(1000, sizes.images))]
        with ProcessPoolExecutor(os.cpu_count() or 1, get_context("forkserver")) as pool:
            list(pool.map(draw, files, chunksize=16))
        for i in range(len(files), sizes.images):
            (root / "ab"[i % 2] / f"{i}.jpg").symlink_to(files[i % len(files)][0])
        yield root


def loading(sizes: Sizes) -> Iterator[Row]:
    """The loader by itself: images a second by the number of its processes, to the CPU's memory and to the card."""
    ways = {
        "pre-training": {"scale": (0.2, 1.0), "rand_augment": None, "random_erasing": 0.0},
        "fine-tuning": {"scale": (0.08, 1.0), "rand_augment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.25},
    }
    cores = os.cpu_count() or 1
    torch.zeros(1, device=sizes.device)  # so that batches come in pinned memory
    with photographs(sizes) as root:
        samples = read_images(str(root))
        for kind, how in ways.items():
            transform = train_transform(Preprocessing.standard(sizes.side), **how)
            for workers in (2, max(2, cores // 2), max(2, cores - 2)) if sizes.device == "cuda" else (1,):
                for place in dict.fromkeys(("cpu", sizes.device)):
                    row: Row = {"transforms": kind, "processes": workers, "to": place}
                    with guarded(row, "images/s"):
                        loader = train_loader(
                            samples, transform, batch_size=sizes.batch, workers=workers, seed=0, mode="RGB"
                        )
                        batches = iter(loader)
                        next(batches)
                        start, count, most = time.perf_counter(), 0, 2000 if workers > 2 else 500
                        for batch in batches:
                            batch.on(place)
                            count += len(batch.indices)
                            if count >= most:
                                break
                        row["images/s"] = count / (time.perf_counter() - start)
                        del batches, loader
                    yield row


def trainer(sizes: Sizes) -> Iterator[Row]:
    """The real trainer, uncompiled: images a second from JPEG files, and of one batch; the GPU's idle share."""
    small = sizes.device == "cpu"
    shared = {"device": sizes.device, "batch_size": sizes.batch, "image_size": sizes.side, "epochs": 1}
    if not small:
        shared |= {"precision": "bf16", "compile": False, "workers": max(2, (os.cpu_count() or 1) - 2)}
    with photographs(sizes) as root, tempfile.TemporaryDirectory() as folder:
        pack_shards(str(root), Path(folder) / "shards", shard_bytes=2**28, short_side=256, val_fraction=0.05)
        whole, small_files = str(root), str(Path(folder) / "shards")
        for name, model, data, options in (
            ("classify", sizes.model, whole, {"val_fraction": 0.05}),
            ("classify", sizes.model, small_files, {}),
            ("classify", sizes.model, small_files, {"muon_lr_scale": None}),
            ("classify", sizes.large, whole, {"val_fraction": 0.05}),
            ("pretrain", sizes.large, whole, {}),
        ):
            row: Row = {"task": name, "model": model, "images": "files" if data == whole else "shards, short side 256"}
            with guarded(row, "images/s"):
                out = Path(folder) / str(time.time())
                given = {**shared, "model": model, **options}
                row |= trained(Trainer(build_task(find_task(name), data, out, given, None, False), Run(out)), small)
            yield row


def trained(trainer: Trainer, small: bool) -> Row:
    """What a trainer does in the steps after those in which it gets ready."""
    batch_size, count = trainer.config.batch_size, 1 if small else 60

    def endless() -> Iterator[Any]:
        for epoch in itertools.count():
            trainer.loader.set_epoch(epoch)
            yield from trainer.loader

    def rate(steps: int, batches: Iterator[Any]) -> float:
        start = time.perf_counter()
        for batch in itertools.islice(batches, steps):
            trainer.train_step(batch)
        trainer.catch_up()
        return steps * batch_size / (time.perf_counter() - start)

    trainer.model.train()
    batches = endless()
    rate(BEFORE + 3, batches)
    row: Row = {"optimizer": " and ".join(type(optimizer).__name__ for optimizer in trainer.optimizers)}
    row |= {"graph": trainer.graphed is not None and trainer.graphed.replay is not None}
    row["images/s"] = rate(count, batches)
    row["on one batch"] = rate(count, itertools.repeat(next(batches)))
    if not small:  # without what the CPU does, which would take longer to write down than to do
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            wall = 10 * batch_size / rate(10, batches)
        busy = sum(event.self_device_time_total for event in kernels(profiler)) / 1e6
        row["idle share"] = 1 - busy / wall
    return row
