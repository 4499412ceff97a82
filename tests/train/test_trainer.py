"""The loop: what is promised of a run, on a few small images."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sitecustomize import BYTE
from vacuous import nonempty

from convnext import cli
from convnext.data.image_set import read_train_val
from convnext.errors import InputError, Stopped
from convnext.nn.depthwise.smooth import NORM
from convnext.runs.directory import Run
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.recipes.small_data import small_data
from convnext.tasks.classify.task import Classification
from convnext.train.launch import train_task
from convnext.train.trainer import Trainer
from convnext.variants import VARIANTS, Variant
from convnext.weights import save_state

BASE = ClassifyConfig(
    model=BYTE, image_size=32, epochs=2, batch_size=8, workers=0, base_lr=1e-2, random_erasing=0.0, rand_augment=None,
    drop_path=0.2,
)  # fmt: skip


def build(colours: Path, out: Path, **changes: object) -> Trainer:
    config = BASE.override({"data": str(colours), **changes})
    task = Classification(config, *read_train_val(str(colours)))
    return Trainer(task, Run.create(out, config, overwrite=False))


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer.model.parameters()]


def step_once(trainer: Trainer) -> list[torch.Tensor]:
    trainer.model.train()
    trainer.train_step(next(iter(trainer.loader)))
    return weights(trainer)


def stop_after(trainer: Trainer, steps: int) -> None:
    """Send the process a signal in its `steps`-th step."""
    step = trainer.train_step

    def train_step(batch: Any) -> float:
        if trainer.step == steps - 1:
            signal.raise_signal(signal.SIGTERM)
        return step(batch)

    trainer.train_step = train_step


KINDS = {
    "mixed": {"ema": 0.9, "mixup": 0.2, "cutmix": 1.0, "mix_after": 1.0, "muon_lr_scale": 10.0},
    "two workers": {"workers": 2},
    "growing": {"progressive_resizing": 0.5, "stem_patch": 1, "depthwise_init": "smooth"},
}
QUICK = [("mixed", 6), *((kind, 8) for kind in KINDS)]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        pytest.param(options, steps, id=f"{kind}-{steps}", marks=() if (kind, steps) in QUICK else pytest.mark.heavy)
        for kind, options in KINDS.items()
        for steps in (1, 6, 8)  # in the first epoch of three steps, at the end of the second, in the third
    ],
)
def test_resumed_run_is_the_undisturbed_run_bit_by_bit(
    colours: Path, tmp_path: Path, options: dict, steps: int
) -> None:
    whole = build(colours, tmp_path / "whole", epochs=3, **options)
    whole.fit()

    broken = build(colours, tmp_path / "broken", epochs=3, save_every=2, **options)
    stop_after(broken, steps)
    with pytest.raises(Stopped, match="continue with --resume"):
        broken.fit()
    assert broken.step == steps
    config = ClassifyConfig.from_dict(Run.reopen(tmp_path / "broken").read_config())
    train_task(Classification(config, *read_train_val(config.data)), tmp_path / "broken", resume=True, overwrite=False)

    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in nonempty(first))
    rows = [
        [(row["epoch"], row["loss"], row["top1"]) for row in Run(tmp_path / name).rows()]
        for name in ("whole", "broken")
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3


def test_mixing_begins_after_some_epochs_and_labels_are_smoothed_once(colours: Path, tmp_path: Path) -> None:
    how = {"epochs": 3, "mixup": 0.2, "cutmix": 1.0, "mix_after": 1.0, "label_smoothing": 0.1}
    trainer = build(colours, tmp_path / "run", **how)
    loss, seen = trainer.task.loss, []
    scores = torch.tensor([0.0, 1.0, 2.0])

    def spy(model: Any, part: tuple[torch.Tensor, ...]) -> torch.Tensor:
        mixed = part[1].is_floating_point()
        wanted = part[1] if mixed else 0.9 * torch.eye(3)[part[1]] + 0.1 / 3
        found = loss(lambda images: scores.expand(len(images), 3), part)
        torch.testing.assert_close(found, -(wanted * scores.log_softmax(0)).sum(1).mean())
        seen.append(mixed)
        return loss(model, part)

    trainer.task.loss = spy
    trainer.fit()
    assert seen == [False] * 3 + [True] * 6


def test_several_labels_take_nothing_that_needs_one() -> None:
    config = small_data("convnextv2_atto").override({"multi_label": "true"})
    assert (config.mixup, config.cutmix, config.label_smoothing) == (0.0, 0.0, 0.0)


def test_images_grow_in_three_parts_of_the_training(colours: Path, tmp_path: Path) -> None:
    trainer = build(colours, tmp_path / "run", epochs=3, stem_patch=1, progressive_resizing=0.5)
    loss, sides = trainer.task.loss, []

    def spy(model: Any, part: tuple[torch.Tensor, ...]) -> torch.Tensor:
        sides.append(tuple(part[0].shape[-2:]))
        return loss(model, part)

    trainer.task.loss = spy
    trainer.fit()
    assert sides == [(16, 16)] * 3 + [(24, 24)] * 3 + [(32, 32)] * 3


def test_depthwise_kernels_start_as_told_and_given_weights_as_given(colours: Path, tmp_path: Path) -> None:
    def norms(trainer: Trainer) -> torch.Tensor:
        named = trainer.model.named_parameters()
        return torch.cat([p.detach().flatten(1).norm(dim=1) for name, p in named if name.endswith("dwconv.weight")])

    published = build(colours, tmp_path / "a")
    assert norms(published).mean() < 0.2  # 7 * 0.02
    smooth = build(colours, tmp_path / "b", depthwise_init="smooth", ema=0.9)
    torch.testing.assert_close(norms(smooth), torch.full_like(norms(smooth), NORM))
    assert all(map(torch.equal, weights(smooth), smooth.ema.model.parameters()))
    save_state(tmp_path / "given.safetensors", published.model.state_dict(), published.task.meta())
    given = build(colours, tmp_path / "c", depthwise_init="smooth", init=str(tmp_path / "given.safetensors"))
    torch.testing.assert_close(norms(given), norms(published))


def gradients(trainer: Trainer) -> list[torch.Tensor]:
    """What the optimizer sees of one step."""
    seen = []
    step = trainer.scaler.step

    def spy(optimizer: torch.optim.Optimizer) -> None:
        seen.extend(p.grad.clone() for p in trainer.model.parameters())
        step(optimizer)

    trainer.scaler.step = spy
    step_once(trainer)
    return seen


def assert_same(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * max(1.0, a.abs().max().item()))


def test_accumulated_parts_give_the_whole_batch_s_gradient(colours: Path, tmp_path: Path) -> None:
    plain = gradients(build(colours, tmp_path / "a", drop_path=0.0))
    assert_same(plain, gradients(build(colours, tmp_path / "b", drop_path=0.0, accumulate=3)))


def test_gradient_is_clipped(colours: Path, tmp_path: Path) -> None:
    clipped = gradients(build(colours, tmp_path / "run", clip_grad=1e-3))
    assert torch.nn.utils.get_total_norm(clipped).item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.heavy
def test_compiled_network_gives_the_same_gradient(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VARIANTS, BYTE, Variant(BYTE, 2, (1, 1, 1, 1), (8, 16, 32, 64), 0, 0, 0))
    plain = gradients(build(colours, tmp_path / "a"))
    assert_same(plain, gradients(build(colours, tmp_path / "b", compile=True)))


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=pytest.mark.heavy)])
def test_low_precision_trains_and_keeps_fp32_weights(colours: Path, tmp_path: Path, precision: str) -> None:
    metrics = build(colours, tmp_path / "run", precision=precision, epochs=4).fit()
    state = load_file(tmp_path / "run" / "model.safetensors")
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in nonempty(state.values()))
    assert metrics["top1"] > 60  # three colours; chance is 33


def test_linear_probe_moves_the_head_alone(colours: Path, tmp_path: Path) -> None:
    trainer = build(colours, tmp_path / "run", freeze_backbone=True)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    step_once(trainer)
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"head.weight", "head.bias"}


def test_mixing_makes_the_batch_even_and_small_sets_shrink_it(colours: Path, tmp_path: Path) -> None:
    assert build(colours, tmp_path / "a", batch_size=7, mixup=0.5).config.batch_size == 6
    assert build(colours, tmp_path / "b", batch_size=1000).config.batch_size == 24


def test_balanced_classes_weigh_by_inverse_count(colours: Path, tmp_path: Path) -> None:
    task = build(colours, tmp_path / "run", class_weights="balanced").task
    torch.testing.assert_close(task.class_weights, torch.ones(3))


@pytest.mark.parametrize("muon", [pytest.param(None, marks=pytest.mark.heavy), 10.0])
def test_what_is_read_a_step_later_is_the_same_run(colours: Path, tmp_path: Path, muon: float | None) -> None:
    runs = []
    for late in (False, True):
        options = {"ema": 0.9, "clip_grad": 1.0, "save_every": 2, "muon_lr_scale": muon}
        trainer = build(colours, tmp_path / str(late), **options)
        trainer.late = late
        trainer.fit()
        runs.append((weights(trainer), [(row["step"], row["loss"]) for row in trainer.run.rows()]))
    assert runs[0][1] == runs[1][1]
    assert all(torch.equal(a, b) for a, b in nonempty(zip(runs[0][0], runs[1][0], strict=True)))


@pytest.mark.parametrize(("late", "muon"), [(False, None), (True, None), (True, 10.0)])
def test_steps_that_are_not_finite_are_skipped_and_recorded(
    colours: Path, tmp_path: Path, late: bool, muon: float | None
) -> None:
    """`late`: as on a GPU, which decides by itself and is read a step later."""
    trainer = build(colours, tmp_path / "run", ema=None if late else 0.5, muon_lr_scale=muon)
    trainer.late = late
    head = trainer.model.head
    head.register_forward_hook(lambda module, inputs, out: out * float("nan") if trainer.step == 1 else out)
    step = trainer.train_step

    def watched(batch: Any) -> float:
        before = weights(trainer)
        loss = step(batch)
        moved = not all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))
        assert moved == (trainer.step != 2)
        return loss

    trainer.train_step = watched
    metrics = trainer.fit()
    assert metrics["top1"] >= 0
    rows = [json.loads(line) for line in trainer.run.nonfinite.read_text().splitlines()]
    assert [(row["epoch"], row["step"], row["loss"]) for row in rows] == [(1, 2, "nan")]
    assert len(rows[0]["images"]) == 8
    assert all(Path(path).is_file() for path in rows[0]["images"])
    assert all(math.isfinite(row["loss"]) for row in nonempty(trainer.run.rows()))


def test_too_many_steps_that_are_not_finite_end_the_run_with_advice(colours: Path, tmp_path: Path) -> None:
    trainer = build(colours, tmp_path / "run", epochs=3, max_nonfinite=2)
    trainer.model.head.register_forward_hook(
        lambda module, inputs, out: out * float("inf") if trainer.step >= 3 else out
    )
    with pytest.raises(InputError, match=r"not finite in 2 steps in a row .*lower --base-lr.*continue with --resume"):
        trainer.fit()
    config = trainer.config
    resumed = Trainer(Classification(config, *read_train_val(config.data)), Run.reopen(tmp_path / "run"), resume=True)
    assert resumed.step == 5
    assert all(p.isfinite().all() for p in resumed.model.parameters())


def test_before_an_error_ends_the_run_what_is_whole_is_saved_once(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, saves = build(colours, tmp_path / "run"), list[int]()
    monkeypatch.setattr(trainer, "save", lambda: saves.append(trainer.step))
    trainer.rescue()
    trainer.unreadable.found = {"a.png": "a.png: truncated"}  # the step is done again
    trainer.rescue()
    trainer.unreadable.found = {}
    trainer.saved = (trainer.epoch, trainer.step)
    trainer.rescue()
    assert saves == [0]


def test_the_last_checkpoints_are_kept(colours: Path, tmp_path: Path) -> None:
    trainer = build(colours, tmp_path / "run", epochs=3, save_every=1, keep_checkpoints=3)
    trainer.fit()
    names = sorted(path.name for path in trainer.run.checkpoints.glob("epoch-*"))
    assert names == [f"epoch-0000{e}-step-000000000{s}" for e, s in ((2, 7), (2, 8), (3, 9))]


def test_a_row_holds_the_mean_loss_of_the_images_seen(run: Path) -> None:
    first, last = (row["loss"] for row in Run(run).rows())
    assert 0.2 < last < first < 1.5  # of three classes, from ln 3 on


def test_a_run_holds_what_the_design_says(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.json", "environment.json", "metrics.jsonl", "checkpoints", "tensorboard", "model.safetensors",
        "result.json", "README.md", "curves.png", "confusion.png", "per_class.csv",
    }  # fmt: skip
    assert {path.name for path in (run / "checkpoints").iterdir()} == {
        "best.safetensors", "epoch-00001-step-0000000003", "epoch-00002-step-0000000006",
    }  # fmt: skip
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[-1].keys() >= {"loss", "lr", "top1", "val_loss", "images_per_second", "step"}
    assert json.loads((run / "result.json").read_text())["top1"] == rows[-1]["top1"]
    assert any(path.name.startswith("events.") for path in (run / "tensorboard").iterdir())


def test_tensorboard_reads_the_curves_and_forgets_what_a_resume_does_again(colours: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = build(colours, tmp_path / "run", epochs=4)
    stop_after(trainer, 7)
    with pytest.raises(Stopped):
        trainer.fit()
    train_task(trainer.task, tmp_path / "run", resume=True, overwrite=False)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = trainer.run.rows()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("epoch/loss")] == [
        (row["step"], round(row["loss"], 4)) for row in rows
    ]
    assert [e.step for e in events.Scalars("train/lr")] == [10]


def test_a_failed_evaluation_is_done_again(colours: Path, tmp_path: Path) -> None:
    whole = build(colours, tmp_path / "whole")
    whole.fit()
    trainer = build(colours, tmp_path / "run")
    evaluate = trainer.task.evaluate

    def fail(*arguments: Any, last: bool) -> dict[str, float]:
        if arguments[-1] == 2:
            raise InputError("the validation folder is gone")
        return evaluate(*arguments, last=last)

    trainer.task.evaluate = fail
    with pytest.raises(InputError, match="folder is gone; stopped after step 6; continue with --resume"):
        trainer.fit()
    trainer.task.evaluate = evaluate
    train_task(trainer.task, tmp_path / "run", resume=True, overwrite=False)
    assert [row["loss"] for row in trainer.run.rows()] == [row["loss"] for row in whole.run.rows()]
    first, second = (load_file(t.run.weights) for t in (whole, trainer))
    assert all(torch.equal(first[key], second[key]) for key in nonempty(first))


def test_the_same_command_goes_on_with_a_batch_that_was_made_smaller(colours: Path, tmp_path: Path) -> None:
    arguments = ["train", "classify", str(colours), "--out", str(tmp_path / "run"), "--image-size", "32"]
    arguments += ["--workers", "0", "--epochs", "2", "--batch-size", "1000", "--resume", "auto", "--model", BYTE]
    assert cli.main(arguments) == 0
    assert cli.main(arguments) == 0
    assert cli.main([*arguments, "--batch-size", "8"]) == 2
