"""Pre-training from a user's point of view: choose a recipe, start or resume, look at reconstructions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from convnext.analysis.reconstructions import draw_reconstructions
from convnext.cli.predict import expand
from convnext.config import PretrainConfig
from convnext.data.image_set import read_images
from convnext.data.images.decode import read_image
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.white_level import say_if_narrow
from convnext.errors import ImageError, InputError, WeightsError
from convnext.models.fcmae import load_fcmae
from convnext.runs.directory import resumed_config
from convnext.runtime.device import pick_device
from convnext.tasks.pretrain.fcmae.task import Pretraining
from convnext.tasks.recipes import build_config, pretrain_recipe

SHEET = 8
"""Images in one picture."""


def build_task(data: str, out: Path, given: dict[str, Any], recipe: str | None, resume: bool) -> Pretraining:
    """The task of a new run on `data`, or of the one at `out`; `given` are options that override the recipe's."""
    images = read_images(data)
    if resume:
        config = resumed_config(PretrainConfig, data, out, given)
    else:
        model = given.get("model", PretrainConfig.model)
        name = recipe or pretrain_recipe(images=len(images))
        config = build_config(name, model, PretrainConfig).override({**given, "data": data})
    say_if_narrow(images, config.white)
    return Pretraining(config, images)


def reconstruct(source: str, inputs: list[str], out: Path, *, device: str, seed: int) -> tuple[list[Path], list[str]]:
    """Draw images as the pre-trained model of `source` completes them, into PNG files in `out`.

    Returns the files, and a line for each image that could not be read. `InputError` if none could be.
    """
    model, meta = load_fcmae(source)
    stored = meta.get("preprocessing")
    size = 7 * model.patch_size  # of the paper, at patches of 32
    preprocessing = Preprocessing.from_dict(stored) if stored else Preprocessing.standard(size, model.in_chans)
    if preprocessing.image_size % model.patch_size:
        raise WeightsError(f"{source}: images of {preprocessing.image_size} pixels, patches of {model.patch_size}")
    where = pick_device(device)
    model.to(where)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from error
    files: list[Path] = []
    failures: list[str] = []
    pending = list(expand(inputs))
    while pending:
        sheet: list[torch.Tensor] = []
        while pending and len(sheet) < SHEET:
            try:
                sheet.append(
                    preprocessing(read_image(pending.pop(0)[1], preprocessing.mode, white=preprocessing.white))
                )
            except ImageError as error:
                failures.append(str(error))
        if sheet:
            files.append(out / f"reconstructions-{len(files) + 1:03}.png")
            draw_reconstructions(model, torch.stack(sheet).to(where), preprocessing, files[-1], seed=seed + len(files))
    if not files:
        raise InputError(f"no image could be read: {failures[0]}")
    return files, failures
