"""The run directory: the unit of exchange between training and everything after.

config.json          the whole config
environment.json     versions and machine
metrics.jsonl        one line an epoch
tensorboard/         the same, for TensorBoard
checkpoints/         last.pt (all state, to resume from), best.safetensors
model.safetensors    the weights everything after uses: the last epoch's, averaged if EMA is on
README.md, *.png     what a person reads
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from convnext.config import Config
from convnext.errors import InputError
from convnext.files import whole_file

ANYTIME = ("workers", "device")
"""Options that a resumed run may change: they do not change what is computed."""


class Run:
    """A run directory that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.safetensors"
        self.weights = path / "model.safetensors"
        self.metrics = path / "metrics.jsonl"

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], *, overwrite: bool) -> Run:
        """A new run. `InputError` if the folder holds something (unless a run to overwrite) or cannot be written."""
        occupied = path.is_dir() and any(path.iterdir()) if os.access(path, os.R_OK) else path.exists()
        if occupied and not overwrite:
            raise InputError(f"{path} already exists; continue it with --resume or replace it with --overwrite")
        if occupied and not (path / "config.json").is_file():
            raise InputError(f"{path} is not a run; --overwrite replaces nothing else")
        try:
            if occupied:
                shutil.rmtree(path)
            (path / "checkpoints").mkdir(parents=True)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
        run = cls(path)
        run.write_json("config.json", config)
        run.write_json("environment.json", environment())
        return run

    @classmethod
    def reopen(cls, path: Path) -> Run:
        """A run to resume. `InputError` if there is none, or nothing in it to resume from."""
        if not (path / "config.json").is_file():
            raise InputError(f"no run to resume at {path}; start one without --resume")
        run = cls(path)
        if not run.checkpoint.is_file():
            raise InputError(f"{path} stopped before its first checkpoint; start it again with --overwrite")
        return run

    def read_config(self) -> dict[str, Any]:
        """The run's `config.json`."""
        return json.loads((self.path / "config.json").read_text())

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of the run."""
        self.write_text(name, json.dumps(value, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run."""
        with whole_file(self.path / name) as path:
            path.write_text(text, encoding="utf-8")

    def log(self, row: dict[str, Any]) -> None:
        """Add one epoch to `metrics.jsonl`."""
        self.write_text("metrics.jsonl", "".join(json.dumps(r) + "\n" for r in [*self.rows(), row]))

    def rows(self) -> list[dict[str, Any]]:
        """All epochs so far."""
        if not self.metrics.is_file():
            return []
        return [json.loads(line) for line in self.metrics.read_text().splitlines()]

    def forget_after(self, epoch: int) -> None:
        """Drop the rows of epochs later than `epoch`: a resumed run writes them again."""
        rows = [row for row in self.rows() if row["epoch"] <= epoch]
        self.write_text("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def resumed_config(kind: type[Config], data: str, out: Path, given: dict[str, Any]) -> Config:
    """The config of the run at `out`. `InputError` where `data` or `given` contradict it."""
    values = Run.reopen(out).read_config()
    if ("mask_ratio" in values) != hasattr(kind, "mask_ratio"):
        raise InputError(f"{out} was begun by another command: `convnext pretrain` and `convnext train` do not mix")
    stored = kind.from_dict(values)
    config = stored.override(given)
    for name, value in config.to_dict().items():
        before = getattr(stored, name)
        if value != before and name not in ANYTIME:
            raise InputError(
                f"{out} was begun with {name} {before}, not {value}; --resume changes only {', '.join(ANYTIME)}"
            )
    if data != stored.data and Path(data).resolve() != Path(stored.data).resolve():
        raise InputError(f"{out} was begun on {stored.data}, not {data}")
    return config


def environment() -> dict[str, Any]:
    """What a result may depend on: versions, processor, threads, devices."""
    import numpy
    import PIL
    import timm
    import torch
    import torchvision

    import convnext

    return {
        "command": sys.argv,
        "convnext": convnext.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "platform": platform.platform(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
