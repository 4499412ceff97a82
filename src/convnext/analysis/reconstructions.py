"""Pictures of what a masked autoencoder makes of hidden patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from convnext.analysis.page import write_section
from convnext.data.images.decode import read_image
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.sources.inputs import expand
from convnext.errors import ImageError, InputError, WeightsError
from convnext.models.fcmae import FCMAE, load_fcmae
from convnext.models.masking import random_patches
from convnext.runtime.device import keep_fp32, pick_device
from convnext.storage.files import make_folder, whole_file

SHEET = 8
"""Images in one picture."""

GREY = 0.5
GAP = 4  # pixels between pictures


@torch.no_grad()
def draw_reconstructions(model: FCMAE, images: Tensor, preprocessing: Preprocessing, path: Path, seed: int = 0) -> None:
    """A row for each image, as a PNG file: the image, what the encoder sees of it, and the composite of visible pixels
    and predictions.

    Where a prediction is of normalised pixels, the true patch's mean and deviation are put back (as in the MAE paper),
    and so it shows structure, not colour. The masks depend on `seed` alone.

    Args:
        model: encoder and decoder.
        images: preprocessed `[N, in_chans, H, W]`.
        preprocessing: what made them.
        path: of the picture.
        seed: of the masks.
    """
    training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    patches = random_patches(
        len(images), model.grid(images), model.mask_ratio, generator=generator, device=images.device
    )
    rebuilt, hidden = model.reconstruct(images, patches)
    model.train(training)
    size = float(model.patch_size)
    masked = F.interpolate(hidden[:, None].float(), scale_factor=size).bool()
    std, mean = (
        torch.tensor(v, device=images.device).view(1, -1, 1, 1) for v in (preprocessing.std, preprocessing.mean)
    )
    original, composite = (images * std + mean).float(), (rebuilt * std + mean).float()
    columns = [original, original.masked_fill(masked, GREY), composite]
    pad = (0, GAP, 0, GAP)
    rows = torch.cat([F.pad(column, pad, value=1.0) for column in columns], dim=3)
    sheet = rows.permute(1, 0, 2, 3).flatten(1, 2)[:, :-GAP, :-GAP].clamp(0, 1)
    pixels = (sheet * 255).round().byte().cpu().numpy()
    # Other than 3 channels are shown as their mean.
    picture = np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels.mean(axis=0).astype(np.uint8)
    with whole_file(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


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
    keep_fp32()
    model.to(where)
    make_folder(out)
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
            file = out / f"reconstructions-{len(files) + 1:03}.png"
            draw_reconstructions(model, torch.stack(sheet).to(where), preprocessing, file, seed=seed + len(files))
            files.append(file)
    if not files:
        raise InputError(f"no image could be read: {failures[0]}")
    write_section(
        out,
        "reconstruct",
        title="Reconstructions",
        reading="In each row an image, what the encoder sees of it, and what the decoder makes of the rest.",
        pictures=[(file.name, f"Images, their visible patches, and reconstructions by {source}") for file in files],
        rows=[],
    )
    return files, failures
