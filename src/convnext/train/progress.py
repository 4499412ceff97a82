"""Progress of a run for a person who watches: a bar, a line an epoch, and curves."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from convnext.runtime import distributed
from convnext.train.length import Epochs, Hours
from convnext.train.tracking import Curves

LOG_EVERY = 10
"""Steps between points of a curve."""


class Progress:
    """Shows a run's progress on stderr, and adds it to its curves."""

    def __init__(self, length: Epochs, curves: Curves) -> None:
        """Only the first process shows anything."""
        self.length, self.curves, self.start = length, curves, length.step
        self.console = Console(stderr=True)
        self.first = distributed.rank() == 0
        columns = [
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        ]
        self.bar = RichProgress(
            *columns, console=self.console, disable=not (self.first and has_bar(self.console)), transient=True
        )
        self.row = self.bar.add_task(
            "train",
            total=1.0,
            loss=float("nan"),
            epoch=self.of_all(length.step // length.epoch_steps + 1),
        )
        self.bar.update(self.row, completed=self.done())

    def __enter__(self) -> Self:
        self.bar.start()
        self.began = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def done(self) -> float:
        """Share of the training that is done."""
        return self.length.position / self.length.epochs

    def of_all(self, epoch: int) -> str:
        """An epoch's number, and of how many, if that is known."""
        return (
            str(epoch) if isinstance(self.length, Hours) else f"{min(epoch, self.length.epochs)}/{self.length.epochs}"
        )

    def advance(self, loss: float, lr: float) -> None:
        """One step done."""
        step = self.length.step
        self.bar.update(self.row, completed=self.done(), loss=loss)
        if step % LOG_EVERY == 0:
            self.curves.add({"train/loss": loss, "train/lr": lr}, step)

    def end_epoch(self, row: dict[str, Any]) -> None:
        """One epoch done: print its line."""
        if not self.first:
            return
        done, step = row["epoch"], row["step"]
        left = self.length.left()
        if left is None:
            left = (time.perf_counter() - self.began) / max(step - self.start, 1) * (self.length.steps - step)
        metrics = {k: v for k, v in row.items() if k not in ("epoch", "step", "seconds", "images_per_second")}
        points = {**metrics, "images_per_second": row["images_per_second"]}
        self.curves.add({f"epoch/{name}": value for name, value in points.items()}, step)
        self.bar.update(self.row, epoch=self.of_all(done + 1))
        figures = "  ".join(f"{k} {v:.3g}" if k == "lr" else f"{k} {v:.2f}" for k, v in metrics.items())
        # In a notebook, what is printed while the bar's thread draws goes into the bar's widget and is cleared with it.
        with self.bar.live._lock:
            self.console.print(
                f"epoch {self.of_all(done)}  {figures}  {row['images_per_second']:.0f} images/s  left {clock(left)}",
                highlight=False,
                soft_wrap=True,
            )


def has_bar(console: Console) -> bool:
    """Whether there is someone to watch a bar: at a terminal, or in a notebook that has widgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def clock(seconds: float) -> str:
    """`h:mm:ss`, or `m:ss` below an hour."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
