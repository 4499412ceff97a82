"""What a person watches while a run trains: a bar, a line an epoch, and TensorBoard."""

from __future__ import annotations

import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.train.tensorboard import Scalars

LOG_EVERY = 10
"""Steps between points in TensorBoard."""


class Progress:
    """Shows a run's progress on stderr and writes it for TensorBoard."""

    def __init__(self, epochs: int, steps: int, run: Run, *, start: int = 0) -> None:
        """`steps` in an epoch; `start` of them, over all epochs, are done. Only the first process shows and writes."""
        self.epochs, self.steps, self.start = epochs, steps, start
        self.console = Console(stderr=True)
        first = distributed.rank() == 0
        self.writer = Scalars(run.path / "tensorboard", start) if first else None
        columns = [
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        ]
        self.bar = RichProgress(
            *columns, console=self.console, disable=not first or not self.console.is_terminal, transient=True
        )
        self.row = self.bar.add_task(
            "train", total=epochs * steps, completed=start, loss=float("nan"), epoch=f"{start // steps + 1}/{epochs}"
        )

    def __enter__(self) -> Self:
        self.bar.start()
        self.began = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()
        if self.writer is not None:
            self.writer.close()

    def advance(self, loss: float, step: int, lr: float) -> None:
        """One step done."""
        self.bar.update(self.row, advance=1, loss=loss)
        if step % LOG_EVERY == 0 and self.writer is not None:
            self.writer.add({"train/loss": loss, "train/lr": lr}, step)

    def end_epoch(self, row: dict[str, Any]) -> None:
        """One epoch done: print its line."""
        if self.writer is None:
            return
        done, step = row["epoch"], row["step"]
        left = (time.perf_counter() - self.began) / max(step - self.start, 1) * (self.epochs * self.steps - step)
        metrics = {k: v for k, v in row.items() if k not in ("epoch", "step", "seconds", "images_per_second")}
        points = {**metrics, "images_per_second": row["images_per_second"]}
        self.writer.add({f"epoch/{name}": value for name, value in points.items()}, step)
        self.bar.update(self.row, epoch=f"{min(done + 1, self.epochs)}/{self.epochs}")
        figures = "  ".join(f"{k} {v:.3g}" if k == "lr" else f"{k} {v:.2f}" for k, v in metrics.items())
        self.console.print(
            f"epoch {done}/{self.epochs}  {figures}  {row['images_per_second']:.0f} images/s  left {clock(left)}",
            highlight=False,
            soft_wrap=True,
        )


def clock(seconds: float) -> str:
    """`h:mm:ss`, or `m:ss` below an hour."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
