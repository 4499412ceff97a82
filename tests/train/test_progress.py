"""The bar and the lines of a run that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convnext.runs.directory import Run
from convnext.train.length import Epochs
from convnext.train.progress import Progress, clock
from convnext.train.tracking import Curves


@contextmanager
def progress_at(step: int, folder: Path) -> Iterator[Progress]:
    """Of a training of ten epochs of four steps."""
    length = Epochs(10, 4)
    length.restore(step, {})
    curves = Curves(Run(folder), step, "none")
    try:
        yield Progress(length, curves)
    finally:
        curves.close()


def test_a_run_that_goes_on_begins_where_it_was(tmp_path: Path) -> None:
    with progress_at(20, tmp_path) as shown:
        (task,) = shown.bar.tasks
        assert (task.completed, task.total) == (0.5, 1.0)
        assert task.fields["epoch"] == "6/10"


def test_each_step_and_epoch_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_at(20, tmp_path) as shown, shown:
        (task,) = shown.bar.tasks
        for _ in range(4):
            shown.length.advance()
            shown.advance(loss=1.25, lr=1e-3)
        assert task.completed == pytest.approx(0.6)
        assert task.fields["loss"] == 1.25
        shown.began -= 8  # seconds; of ten epochs four are left, after one
        row = {"epoch": 6, "step": 24, "loss": 1.5, "lr": 1e-3, "top1": 42.123, "images_per_second": 99.6, "seconds": 8}
        shown.end_epoch(row)
        assert task.fields["epoch"] == "7/10"
    said = capsys.readouterr().err
    assert "epoch 6/10  loss 1.50  lr 0.001  top1 42.12  100 images/s  left 0:32" in said


def test_hours_minutes_and_seconds() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 61, 3600, 36_061)] == [
        "0:00",
        "1:00",
        "1:01",
        "1:00:00",
        "10:01:01",
    ]
