"""A method of pre-training as somebody else would add it: two views of an image, and a momentum encoder.

It is a definition, a config and a task, and a line in the registry; the loop, loaders and checkpoints are as they are.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from making import make_folder
from safetensors.torch import load_file
from sitecustomize import BYTE
from torch import Tensor, nn
from vacuous import nonempty

from convnext.api import train
from convnext.config import TrainConfig
from convnext.data.augment.transforms import train_transform
from convnext.data.fingerprint import of_samples
from convnext.data.image_set import ImageSet, read_images
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import Batch, train_loader
from convnext.errors import InputError
from convnext.models.classifier import create_model
from convnext.options import option
from convnext.runs.directory import Run
from convnext.tasks import build, recipes, registry
from convnext.tasks.base import Task
from convnext.tasks.definition import TaskDefinition


@dataclass(frozen=True)
class TwoViewsConfig(TrainConfig):
    TASK: ClassVar[str] = "two_views"

    momentum: float = option(0.9, "share of the momentum encoder that a step keeps at first")


def two_views(model: str) -> TwoViewsConfig:
    return TwoViewsConfig(
        model=model, image_size=32, stem_patch=2, epochs=2, batch_size=8, base_lr=1e-2, workers=0, device="cpu"
    )


class TwoViewsTask(Task):
    def __init__(self, config: TwoViewsConfig, images: ImageSet) -> None:
        self.config, self.train = config, images
        self.preprocessing = Preprocessing.standard(config.image_size)
        self.told: list[tuple[int, int]] = []

    def fingerprint(self) -> dict[str, Any]:
        return of_samples(self.config.data, self.train, labels=False)

    def build_model(self) -> nn.Module:
        return create_model(self.config.model, num_classes=8, stem_patch=self.config.stem_patch)

    def extra(self, model: nn.Module) -> nn.Module:
        self.teacher = copy.deepcopy(model).requires_grad_(False)
        return self.teacher

    def train_loader(self) -> Any:
        config = self.config
        return train_loader(
            self.train,
            train_transform(self.preprocessing, rand_augment=None),
            batch_size=config.batch_size,
            workers=config.workers,
            seed=config.seed,
            mode="RGB",
            views=2,
        )

    def parts(self, batch: Batch, device: torch.device, shared: torch.Generator) -> Iterable[tuple[int, Tensor]]:
        images = batch.on(device)
        assert images.shape[1:] == (2, 3, 32, 32)
        assert not torch.equal(images[:, 0], images[:, 1])
        for part in images.chunk(self.config.accumulate):
            yield len(part), part

    def loss(self, model: Any, part: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.teacher(part[:, 1])
        return (model(part[:, 0]) - wanted).square().mean()

    def after_step(self, model: Any, step: int, steps: int) -> None:
        self.told.append((step, steps))
        kept = 1 - (1 - self.config.momentum) * (1 - step / steps)
        for own, new in zip(self.teacher.parameters(), model.parameters(), strict=True):
            own.lerp_(new.detach(), 1 - kept)

    def evaluate(self, model: nn.Module, device: torch.device, run: Run, epoch: int, *, last: bool) -> dict[str, float]:
        return {}

    def meta(self) -> dict[str, Any]:
        return {"task": "two_views"}

    def finish(self, run: Run, device: torch.device, model: nn.Module) -> dict[str, float]:
        metrics = {"loss": run.rows()[-1]["loss"]}
        run.write_json("result.json", metrics)
        return metrics


BUILT: list[TwoViewsTask] = []


class TwoViews(TaskDefinition):
    name = "two_views"
    command = "pretrain two-views"
    help = data_help = default_recipes = ""
    config = TwoViewsConfig
    recipes = (two_views,)

    def read(self, config: TwoViewsConfig) -> tuple[int, Any]:
        images = read_images(config.data)
        return len(images), images

    def build(self, config: TwoViewsConfig, data: Any) -> Task:
        BUILT.append(TwoViewsTask(config, data))
        return BUILT[-1]

    def default_recipe(self, model: str, *, images: int, trained: bool) -> str:
        return "two_views"

    def next_commands(self, config: Any, data: str, out: Path) -> Sequence[str]:
        return ()


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> TwoViews:
    """The line in the registry."""
    own = TwoViews()
    for module in (registry, recipes, build):
        monkeypatch.setattr(module, "TASKS", (*registry.TASKS, own))
    monkeypatch.setitem(recipes.RECIPES, "two_views", two_views)
    return own


def everything(run: Path) -> dict[str, Tensor]:
    last = max(run.glob("checkpoints/epoch-*"))
    return {name: tensor for file in last.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_method_of_two_views_with_a_momentum_encoder_resumes_exactly(
    method: TwoViews, accumulate: int, tmp_path: Path
) -> None:
    data, whole = make_folder(tmp_path / "data") / "train", tmp_path / "whole"
    options = {"model": BYTE, "accumulate": accumulate, "keep_checkpoints": 3, "save_every": 2}
    train(method, data, out=whole, **options)
    # Once a step, whatever parts it is computed in.
    assert BUILT[-1].told == [(step, 6) for step in range(1, 7)]
    kept = everything(whole)
    assert any(name.startswith("extra.") for name in kept)
    assert not torch.equal(kept["extra.head.weight"], kept["model.head.weight"])
    assert all("extra" not in name for name in nonempty(load_file(whole / "model.safetensors")))

    begun = tmp_path / "begun"
    shutil.copytree(whole, begun)
    for checkpoint in sorted(begun.glob("checkpoints/epoch-*"))[1:]:  # as if it had been killed in its middle
        shutil.rmtree(checkpoint)
    train(method, data, out=begun, resume=True)
    assert 1 < BUILT[-1].told[0][0] < 6
    again = everything(begun)
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in nonempty(kept))
    losses = [[row["loss"] for row in Run(run).rows()] for run in (whole, begun)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("call", ["checked_data", "predictor", "evaluator", "answer"])
def test_what_a_method_does_not_have_is_a_line(call: str) -> None:
    arguments = {"checked_data": (None,), "predictor": ("run", {}), "evaluator": (), "answer": (None, [])}[call]
    with pytest.raises(InputError, match="convnext pretrain two-views"):
        getattr(TwoViews(), call)(*arguments, **({"as_json": False, "single": True} if call == "answer" else {}))
