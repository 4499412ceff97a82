"""The run directory: the unit of exchange between training and everything after.

config.json          the whole config
environment.json     versions and machine
metrics.jsonl        one line an epoch
tensorboard/         the same, for TensorBoard
wandb.json, wandb/   the tracked run of `--track wandb`, and what it keeps; mlflow.json, of `--track mlflow`
checkpoints/         epoch-*/ (all state, to resume from), best.safetensors
unreadable.txt       training images that could not be read, and why; nonfinite.jsonl, steps that were skipped
model.safetensors    the weights everything after uses: the last epoch's, averaged if EMA is on
result.json          the final metrics; summary.json, the same in words
README.md, *.png     what a person reads
hub/                 what `convnext push --dry-run` writes
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from convnext.config import TrainConfig
from convnext.errors import InputError
from convnext.printing import counted, to_json
from convnext.runs.environment import environment, timestamp
from convnext.runs.lock import LOCK
from convnext.storage.files import make_folder, whole_file, writing

MEASURED_FILES = {
    "costliest.csv",
    "groups.csv",
    "groups.json",
    "groups.png",
    "images.csv",
    "objects.csv",
    "robustness-summary.csv",
    "robustness.csv",
    "robustness.json",
    "robustness.jsonl",
    "robustness.png",
}
"""Files that `evaluate` and `analyze robustness` write with `--out` into a run about its weights."""
OWN = {
    *MEASURED_FILES,
    "README.md",
    "batches.png",
    "checkpoints",
    "class_curves.png",
    "config.json",
    "confusion.png",
    "confusions.csv",
    "coverage.csv",
    "curves.png",
    "detections.json",
    "environment.json",
    "facts.json",
    "feature_distances.json",
    "feature_distances.png",
    "gallery.png",
    "hub",
    "metrics.jsonl",
    "mistakes.png",
    "mlflow.json",
    "model.safetensors",
    "nonfinite.jsonl",
    "per_class.csv",
    "precision_recall.png",
    "reconstructions.png",
    "reliability.png",
    "result.json",
    "summary.json",
    "tensorboard",
    "unreadable.txt",
    "wandb",
    "wandb.json",
}
"""Files and folders that a run writes, or others about it, beside `reconstructions-EPOCH.png`; --overwrite deletes no
others."""
CHARTS = {
    "class_curves.png",
    "confusion.png",
    "curves.png",
    "feature_distances.png",
    "groups.png",
    "precision_recall.png",
    "reliability.png",
    "robustness.png",
}
"""Pictures of a run that show no images of the data."""


def refuse_occupied(path: Path, *, overwrite: bool) -> None:
    """`InputError` for a place of a new run that holds something, unless it is a run to overwrite."""
    occupied = path.exists() and not (path.is_dir() and os.access(path, os.R_OK) and is_empty(path))
    if occupied and not overwrite:
        raise InputError(f"{path} already exists; continue it with --resume or replace it with --overwrite")
    if occupied and not is_run(path):
        raise InputError(f"{path} is not a run; --overwrite replaces nothing else")


class Run:
    """A run directory that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.batches = path / "batches.png"
        self.best = self.checkpoints / "best.safetensors"
        self.weights = path / "model.safetensors"
        self.metrics = path / "metrics.jsonl"
        self.unreadable = path / "unreadable.txt"
        self.nonfinite = path / "nonfinite.jsonl"

    @classmethod
    def create(cls, path: Path, config: TrainConfig, *, overwrite: bool, terms: Mapping[str, str] | None = None) -> Run:
        """A new run. `InputError` if the folder holds something (unless a run to overwrite) or cannot be written.

        `terms` are of the first weights' licence, if it restricts use (`weights.licences.inherited`).

        Of a run that is overwritten, what runs write is deleted; what others put beside it stays.
        """
        refuse_occupied(path, overwrite=overwrite)
        make_folder(path)
        with writing(path):
            for old in path.iterdir():
                if not (old.name in OWN or old.match("reconstructions-[0-9]*.png") or old.match(".*.tmp")):
                    continue
                if old.is_dir() and not old.is_symlink():
                    shutil.rmtree(old)
                elif old.name not in ("config.json", "environment.json"):  # lest a killed --overwrite leaves no run
                    old.unlink()
            (path / "checkpoints").mkdir()
        run = cls(path)
        run.write_json("config.json", config.to_dict())
        begun = {"task": config.TASK, "started": timestamp()}
        run.write_json("environment.json", {**begun, **(terms or {}), **environment()})
        return run

    @classmethod
    def reopen(cls, path: Path) -> Run:
        """A run to resume. `InputError` if there is none, or nothing in it to resume from."""
        if not (path / "config.json").is_file():
            raise InputError(f"no run to resume at {path}; start one without --resume")
        if not is_run(path):
            raise InputError(f"{path} is not a run: its config.json is damaged, or another program's")
        run = cls(path)
        if not run.can_resume():
            raise InputError(f"{path} stopped before its first checkpoint; start it again with --overwrite")
        return run

    def can_resume(self) -> bool:
        """Whether there is a whole checkpoint."""
        return any(self.checkpoints.glob("epoch-*/state.json"))

    def read_config(self) -> dict[str, Any]:
        """The run's `config.json`."""
        return json.loads((self.path / "config.json").read_text())

    def write_json(self, name: str, value: Any) -> None:
        """Write a file of the run."""
        self.write_text(name, to_json(value, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the run."""
        with whole_file(self.path / name) as path:
            path.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of files may be bytes

    def append(self, path: Path, line: str) -> None:
        """Add a line to a file of the run."""
        with writing(path), open(path, "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(one_line(line))

    def write_lines(self, path: Path, lines: Iterable[str]) -> None:
        """Write anew what `append` wrote line by line."""
        with whole_file(path) as temporary:
            temporary.write_text("".join(map(one_line, lines)), encoding="utf-8", errors="surrogateescape")

    def log(self, row: dict[str, Any]) -> None:
        """Add one epoch to `metrics.jsonl`."""
        self.write_text("metrics.jsonl", "".join(to_json(r) + "\n" for r in [*self.rows(), row]))

    def rows(self) -> list[dict[str, Any]]:
        """All epochs so far, nan where a number was not finite; lines that are damaged are left out."""
        if not self.metrics.is_file():
            return []
        found = (parsed(line) for line in self.metrics.read_text(errors="replace").splitlines())
        rows = [row for row in found if isinstance(row.get("epoch"), int) and isinstance(row.get("step"), int)]
        return [{name: math.nan if value is None else value for name, value in row.items()} for row in rows]

    def for_people(self) -> list[str]:
        """Names of the files that a person opens: the model card, pictures and tables that are there."""
        return sorted(n for n in OWN if n.endswith((".md", ".png", ".csv")) and (self.path / n).is_file())

    def duration(self) -> str:
        """How long it was trained, in words; of a run that took so many hours, the last epoch may be a part of one."""
        epochs = max((row["epoch"] for row in self.rows()), default=0)
        hours = self.read_config().get("hours")
        trained = counted(epochs, "epoch")
        return trained if hours is None else f"{hours:g} hours, {trained},"

    def forget_measurements(self) -> None:
        """Delete what was measured of weights that others take the place of."""
        for name in MEASURED_FILES:
            (self.path / name).unlink(missing_ok=True)

    def forget_after(self, epoch: int, step: int) -> None:
        """Drop what was written of later epochs and steps: a resumed run writes it again."""
        rows = [row for row in self.rows() if row["epoch"] <= epoch]
        self.write_text("metrics.jsonl", "".join(to_json(row) + "\n" for row in rows))
        if self.nonfinite.is_file():
            lines = self.nonfinite.read_text(errors="replace").splitlines()
            kept = [line for line in lines if isinstance(at := parsed(line).get("step"), int) and at <= step]
            self.write_lines(self.nonfinite, kept)
        for path in list(self.path.rglob(".*.tmp")):  # what was being written when the run, or a push of it, was killed
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for path in self.checkpoints.glob(".epoch-*"):
            shutil.rmtree(path, ignore_errors=True)


def is_run(path: Path) -> bool:
    """Whether a folder is what this package writes: other programs have a `config.json` too."""
    config = parsed(read_text(path / "config.json"))
    return {"recipe", "data", "model", "epochs"} <= config.keys() and (path / "environment.json").is_file()


def task_of(path: Path) -> str | None:
    """The name of a run's task; None for runs of before, which do not say it."""
    task = parsed(read_text(path / "environment.json")).get("task")
    return task if isinstance(task, str) else None


def read_text(path: Path) -> str:
    """The text of a file; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def parsed(text: str) -> dict[str, Any]:
    """The JSON object in a text; empty if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def one_line(text: str) -> str:
    """`text` and a newline; file names may hold some of their own."""
    return text.replace("\n", "\\n") + "\n"


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or nothing but a lock, or a first file that was never finished."""
    return all(path.match(".*.tmp") or path.name == LOCK for path in folder.iterdir())
