"""Seconds of an epoch: those of its steps, also where it was stopped in the middle."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from sitecustomize import BYTE

from convnext.data.image_set import read_train_val
from convnext.errors import Stopped
from convnext.runs.directory import Run
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.task import Classification
from convnext.train import trainer as loop
from convnext.train.trainer import Trainer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock of the training loop that stands still until a test moves it."""
    told = SimpleNamespace(now=0.0)
    told.perf_counter = told.monotonic = lambda: told.now
    monkeypatch.setattr(loop, "time", told)
    return told


def slow_down(trainer: Trainer, clock: SimpleNamespace, stop_in: int | None = None) -> None:
    """Let each step take a hundred seconds and each measurement a thousand; a signal comes in the `stop_in`-th step."""
    step, evaluate = trainer.train_step, trainer.task.evaluate

    def train_step(batch: Any) -> float:
        clock.now += 100
        if trainer.step + 1 == stop_in:
            signal.raise_signal(signal.SIGTERM)
        return step(batch)

    def measure(*arguments: Any, **options: Any) -> dict[str, float]:
        clock.now += 1000
        return evaluate(*arguments, **options)

    trainer.train_step, trainer.task.evaluate = train_step, measure


def test_seconds_before_a_stop_count(colours: Path, tmp_path: Path, clock: SimpleNamespace) -> None:
    """They were lost, and with them hours, energy and CO2."""
    config = ClassifyConfig(model=BYTE, image_size=32, epochs=2, batch_size=8, workers=0, data=str(colours))
    parts = read_train_val(str(colours))
    run = Run.create(tmp_path / "run", config, overwrite=False)
    first = Trainer(Classification(config, *parts), run)
    slow_down(first, clock, stop_in=5)  # of three an epoch
    with pytest.raises(Stopped):
        first.fit()
    clock.now += 10_000  # between the stop and the resume
    second = Trainer(Classification(config, *parts), run, resume=True)
    slow_down(second, clock)
    second.fit()
    rows = run.rows()
    assert [row["seconds"] for row in rows] == [300, 300]
    assert rows[1]["images_per_second"] == round(8 / 100, 1)


def test_an_epoch_that_was_stopped_while_it_was_measured_has_its_speed(
    colours: Path, tmp_path: Path, clock: SimpleNamespace
) -> None:
    """The run that measured it took no step of it: it had 0 images/s."""
    config = ClassifyConfig(model=BYTE, image_size=32, epochs=1, batch_size=8, workers=0, data=str(colours))
    parts = read_train_val(str(colours))
    run = Run.create(tmp_path / "run", config, overwrite=False)
    first = Trainer(Classification(config, *parts), run)
    slow_down(first, clock)

    def stop(*arguments: Any, **options: Any) -> NoReturn:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("a signal leaves a measurement at once")

    first.task.evaluate = stop
    with pytest.raises(Stopped):
        first.fit()
    second = Trainer(Classification(config, *parts), run, resume=True)
    second.fit()
    assert run.rows()[0]["seconds"] == 300
    assert run.rows()[0]["images_per_second"] == round(3 * 8 / 300, 1)
