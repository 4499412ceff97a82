"""`--hours`: a training that ends in time, with its schedule at its end."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from making import FAST, FAST_DETECT, fails, make_objects
from safetensors.torch import load_file
from sitecustomize import BYTE
from vacuous import nonempty

from convnext import cli
from convnext.runs.directory import Run
from convnext.runs.summary import summarise_run
from convnext.tasks.build import build_task
from convnext.tasks.classify.task import Classification
from convnext.tasks.registry import find_task
from convnext.train import length
from convnext.train.length import MOST_MEASURING, Epochs, Hours
from convnext.train.trainer import Trainer

HOURS = ["--min-lr", "1e-6", "--hours"]


class Clock:
    """Time that goes on by what is done, and not by itself."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A second a step."""
    clock, step = Clock(), Trainer.train_step
    monkeypatch.setattr(length, "time", clock)
    fake = type("Time", (), {"monotonic": clock.monotonic, "perf_counter": clock.monotonic})
    for module in ("convnext.train.trainer", "convnext.cli.train"):
        monkeypatch.setattr(f"{module}.time", fake)

    def slow(trainer: Trainer, batch: object) -> float:
        clock.now += 1
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", slow)
    return clock


def without_epochs(options: list[str]) -> list[str]:
    place = options.index("--epochs")
    return options[:place] + options[place + 2 :]


def train(data: Path, out: Path, *options: str) -> list[dict]:
    command = ["train", "classify", str(data), "--out", str(out), *without_epochs(FAST), *options]
    assert cli.main(command) == 0
    return Run(out).rows()


@pytest.mark.parametrize("speeds", [[1.0], [1.0, 3.0], [3.0, 1.0], [0.2, 0.2, 10.0, 0.2]])
def test_the_schedule_ends_with_the_time(monkeypatch: pytest.MonkeyPatch, speeds: list[float]) -> None:
    """However fast the machine is, and however much that changes on the way."""
    clock = Clock()
    monkeypatch.setattr(length, "time", clock)
    hours = Hours(1, epochs=10, epoch_steps=50, measured=0.2, began=clock.now)
    clock.now += 20
    hours.begin()
    began, places, step = clock.now, [0.0], 0
    while not hours.is_over:
        clock.now += speeds[min(len(speeds) - 1, int((clock.now - began) / 3600 * len(speeds)))]
        step += 1
        hours.advance()
        places.append(hours.position)
        if step % 50 == 0:
            clock.now += 4
            hours.note_measuring(4)
    assert hours.position == 10
    assert hours.steps == step
    assert places == sorted(places)
    assert 3570 < clock.now + 4 + 6 - 1000 <= 3600 + max(speeds)
    jumps = [after - before for before, after in itertools.pairwise(places)]
    assert max(jumps) < 10 * 0.02  # the learning rate does not fall at once


def test_a_slow_first_step_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is compiled in it: a guess of how long measuring takes must not be made of that."""
    clock = Clock()
    monkeypatch.setattr(length, "time", clock)
    hours = Hours(1, epochs=10, epoch_steps=1000, measured=0.2, began=clock.now)
    hours.begin()
    clock.now += 60
    while not hours.is_over:
        hours.advance()
        clock.now += 1
    assert 3600 - 60 - 2 * 100 - 10 < hours.step < 3600 - 60 - 2 * 100 + 10


def test_measuring_takes_a_small_part_of_the_time(
    colours: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first and the last epoch are measured, and others as far apart as measuring is long."""
    measure = Classification.evaluate

    def slow(task: Classification, *args: object, **how: object) -> dict[str, float]:
        clock.now += 1
        return measure(task, *args, **how)

    monkeypatch.setattr(Classification, "evaluate", slow)
    rows = train(colours, tmp_path / "run", *HOURS, str(60 / 3600))
    steps = [row["step"] for row in rows if "top1" in row]
    assert steps[0] == rows[0]["step"]
    assert steps[-1] == rows[-1]["step"]
    gaps = [after - before for before, after in itertools.pairwise(steps[:-1])]
    assert gaps
    assert all(1 / MOST_MEASURING <= gap < 1 / MOST_MEASURING + steps[0] for gap in gaps)
    assert 52 <= clock.now - 1000 <= 60


def test_a_report_is_left_seven_tenths_of_the_time_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 100 s until the first step, steps of 10 s, and 70 of 1,000 s for the report."""
    clock = Clock()
    monkeypatch.setattr(length, "time", clock)
    hours = Hours(1000 / 3600, 10, 4, measured=0.0, began=clock.now)
    clock.now += 100
    hours.begin()
    while not hours.is_over:
        clock.now += 10
        hours.advance()
    assert hours.left() == pytest.approx(70)


def test_of_epochs_the_place_is_that_of_the_step() -> None:
    epochs = Epochs(3, 7)
    epochs.restore(9, {})
    epochs.advance()
    assert epochs.position == 10 / 7
    assert epochs.steps == 21
    assert not epochs.is_over
    epochs.restore(21, {})
    assert epochs.is_over


def test_a_run_ends_in_time_and_whole(colours: Path, tmp_path: Path, clock: Clock) -> None:
    rows = train(colours, tmp_path / "run", *HOURS, str(32 / 3600))
    assert 25 <= clock.now - 1000 <= 32
    assert rows[-1]["lr"] == pytest.approx(1e-6)
    assert rows[0]["lr"] > 1e-6
    assert rows[-1]["step"] == clock.now - 1000
    assert "top1" in rows[-1]
    assert Run(tmp_path / "run").can_resume()
    summary = summarise_run(tmp_path / "run")
    assert summary.state == "ended"
    assert summary.epochs == (len(rows), None)
    assert f"{len(rows)} epochs" in (tmp_path / "run" / "README.md").read_text()


def test_the_last_epoch_may_be_a_part_of_one_and_is_measured(colours: Path, tmp_path: Path, clock: Clock) -> None:
    options = [*HOURS, str(16 / 3600), "--batch-size", "2"]
    rows = train(colours, tmp_path / "run", *options)
    assert len(rows) == 1
    assert 3 <= rows[0]["step"] < 12
    assert "top1" in rows[0]
    again = train(colours, tmp_path / "run", *options, "--resume")
    assert again == rows  # it has ended, and ends again


def test_a_resumed_run_is_the_same(colours: Path, tmp_path: Path, clock: Clock) -> None:
    run, options = tmp_path / "run", [*HOURS, str(25 / 3600), "--save-every", "3", "--keep-checkpoints", "99"]
    train(colours, run, *options)
    first = load_file(run / "model.safetensors")
    checkpoints = sorted((run / "checkpoints").glob("epoch-*"))
    for path in checkpoints[len(checkpoints) // 2 :]:
        shutil.rmtree(path)
    clock.now += 10_000  # the time between a stop and a resume does not count
    train(colours, run, *options, "--resume")
    again = load_file(run / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in nonempty(first))


@pytest.mark.parametrize("task", ["detect", "pretrain"])
def test_other_tasks_have_hours_too(task: str, colours: Path, tmp_path: Path, clock: Clock) -> None:
    data = make_objects(tmp_path / "data") if task == "detect" else colours
    options = without_epochs(FAST_DETECT if task == "detect" else [*FAST, "--image-size", "64"])
    command = ["train", "detect"] if task == "detect" else ["pretrain"]
    assert cli.main([*command, str(data), "--out", str(tmp_path / "run"), *options, "--hours", str(7 / 3600)]) == 0
    assert 3 <= Run(tmp_path / "run").rows()[-1]["step"] <= 7
    assert json.loads((tmp_path / "run" / "result.json").read_text())


def test_what_cannot_be(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["train", "classify", colours, "--out", tmp_path / "run", "--hours"]
    assert "--hours must not be given beside epochs: both say how long to train" in fails(
        capsys, *command, "1", "--epochs", "3"
    )
    assert "hours must be positive, not 0" in fails(capsys, *command, "0")
    assert "hours must be finite, not nan" in fails(capsys, *command, "nan")


def test_no_hours_may_stand_beside_epochs(colours: Path, tmp_path: Path) -> None:
    given = {"hours": "none", "epochs": "3", "model": BYTE, "image_size": "32"}
    config = build_task(find_task("classify"), str(colours), tmp_path / "run", given, "small_data", False).config
    assert (config.hours, config.epochs) == (None, 3)
