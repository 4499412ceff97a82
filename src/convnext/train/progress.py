"""What a person watches while a run trains: a bar, a line an epoch, and TensorBoard."""

from __future__ import annotations

import time
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from convnext.run import Run

EVERY = 10
"""Steps between looks at the loss: reading it makes a GPU wait."""


class Progress:
    """Shows a run's progress on stderr and writes it for TensorBoard."""

    def __init__(self, epochs: int, steps: int, run: Run, *, start: int = 0) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.epochs, self.steps, self.start = epochs, steps, start
        self.console = Console(stderr=True)
        self.writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=start * steps)
        columns = [
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        ]
        self.bar = RichProgress(*columns, console=self.console, disable=not self.console.is_terminal, transient=True)
        self.row = self.bar.add_task(
            "train", total=epochs * steps, completed=start * steps, loss=float("nan"), epoch=f"{start + 1}/{epochs}"
        )

    def __enter__(self) -> Self:
        self.bar.start()
        self.began = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()
        self.writer.close()

    def advance(self, loss: torch.Tensor, step: int, lr: float) -> None:
        """One step done."""
        self.bar.advance(self.row)
        if step % EVERY == 0:
            self.bar.update(self.row, loss=loss.item())
            self.writer.add_scalar("train/loss", loss.item(), step)
            self.writer.add_scalar("train/lr", lr, step)

    def end_epoch(self, row: dict[str, Any]) -> None:
        """One epoch done: print its line."""
        done = row["epoch"]
        left = (time.perf_counter() - self.began) / (done - self.start) * (self.epochs - done)
        metrics = {k: v for k, v in row.items() if k not in ("epoch", "step", "seconds", "images_per_second")}
        for name, value in {**metrics, "images_per_second": row["images_per_second"]}.items():
            self.writer.add_scalar(f"epoch/{name}", value, row["step"])
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
