"""The model card a run writes about itself, from its own config and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from convnext.config import TrainConfig
from convnext.printing import printable
from convnext.storage.files import whole_file
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.pretrain.fcmae.config import PretrainConfig
from convnext.tasks.segment.config import SegmentConfig
from convnext.variants import find_variant

LICENCE = """If the first weights
were published ConvNeXt V2 weights, their licence (CC-BY-NC 4.0) holds for these too."""


def _first_weights(config: TrainConfig) -> str:
    return f"weights `{config.init}`" if config.init else "random weights"


def _names(classes: Sequence[str]) -> str:
    return ", ".join(map(escaped, classes[:20])) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")


def escaped(name: str) -> str:
    """A name as Markdown shows it, and no link, picture or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", " ".join(printable(name).split()))


def write_card(
    folder: Path,
    config: TrainConfig,
    metrics: dict[str, float],
    *,
    classes: Sequence[str],
    images: tuple[int, int],
) -> None:
    """Write `folder/README.md`; `images` are the counts of training and validation images."""
    variant = find_variant(config.model)
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items())
    pictures = "\n\n".join(
        f"![{text}]({name})"
        for name, text in [
            ("curves.png", "learning curves"),
            ("confusion.png", "confusion matrix"),
            ("mistakes.png", "worst mistakes"),
        ]
        if (folder / name).is_file()
    )
    text = f"""# {config.model}, {len(classes)} classes

ConvNeXt V{variant.version} trained by `convnext` from
{_first_weights(config)} with recipe `{config.recipe}`: {config.epochs} epochs of
{images[0]} images at {config.image_size} pixels, batch {config.batch_size}, seed {config.seed}.

| on {images[1]} validation images | |
|---|---|
{figures}

top1 and top5 are in percent, of the last epoch's weights. Classes: {_names(classes)}.

    convnext predict {folder} IMAGE
    convnext evaluate {folder} DATA

The whole configuration is in `config.json`, the machine in `environment.json`, every epoch in `metrics.jsonl`,
figures for each class in `per_class.csv`.

{pictures}

Measured on the images above alone: how it does on other cameras, places or people is not known. {LICENCE}
"""
    with whole_file(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_pretraining_card(folder: Path, config: PretrainConfig, metrics: dict[str, float], *, images: int) -> None:
    """Write `folder/README.md` for a pre-training run on so many images."""
    variant = find_variant(config.model)
    figures = "\n".join(f"| {name} | {value:.4f} |" for name, value in metrics.items())
    colour = (
        "A reconstruction shows structure, not colour: each patch's mean and deviation are those of the true image. "
        if config.norm_pix_loss
        else ""
    )
    text = f"""# {config.model}, pre-trained

ConvNeXt V{variant.version} pre-trained by `convnext` from
{_first_weights(config)} as a masked autoencoder (FCMAE), recipe
`{config.recipe}`: {config.epochs} epochs of {images} images at {config.image_size} pixels, batch {config.batch_size},
mask ratio {config.mask_ratio} of patches of {config.patch_size} pixels, seed {config.seed}. No labels were used.

| at the end | |
|---|---|
{figures}

`loss` is the last epoch's mean squared error on hidden patches; `feature_distance` the smallest mean cosine distance
between channels over the blocks (near 0 is collapse); `knn` and `linear_probe`, where they were asked for, top-1 in
percent by frozen features.

    {config.follow_up(folder)}
    convnext analyze reconstruct {folder} IMAGES --out FOLDER

![image, visible patches, reconstruction](reconstructions.png)

![curves](curves.png) ![feature distances](feature_distances.png)

The whole configuration is in `config.json`, the machine in `environment.json`, every epoch in `metrics.jsonl`.

{colour}{LICENCE}
"""
    with whole_file(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_detection_card(
    folder: Path,
    config: DetectConfig,
    metrics: dict[str, float],
    *,
    classes: Sequence[str],
    images: tuple[int, int],
) -> None:
    """Write `folder/README.md`; `images` are the counts of training and validation images."""
    variant = find_variant(config.model)
    kind = ("Cascade " if config.cascade else "") + ("Mask R-CNN" if config.masks else "R-CNN")
    figures = "\n".join(f"| {name} | {value:.2f} |" for name, value in metrics.items())
    text = f"""# {kind} on {config.model}, {len(classes)} classes

ConvNeXt V{variant.version} as the backbone of {kind}, trained by `convnext` from
{_first_weights(config)} with recipe `{config.recipe}`:
{config.epochs} epochs of {images[0]} images, batch {config.batch_size}, seed {config.seed}.

| on {images[1]} validation images | |
|---|---|
{figures}

COCO's average precision and recall in percent, of the last epoch's weights; s, m and l are small, medium and large
objects. Classes: {_names(classes)}.

    convnext predict {folder} IMAGES --out FOLDER
    convnext evaluate {folder} DATA

The whole configuration is in `config.json`, the machine in `environment.json`, every epoch in `metrics.jsonl`, figures
for each class in `per_class.csv`, all detections on the validation images in `detections.json`.

![curves](curves.png) ![precision and recall](precision_recall.png)

![truth and predictions](gallery.png)

Measured on the images above alone: how it does on other cameras, places or objects is not known. {LICENCE}
"""
    with whole_file(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_segmentation_card(
    folder: Path,
    config: SegmentConfig,
    metrics: dict[str, float],
    *,
    classes: Sequence[str],
    images: tuple[int, int],
) -> None:
    """Write `folder/README.md`; `images` are the counts of training and validation images."""
    variant = find_variant(config.model)
    figures = "\n".join(f"| {name} | {value:.2f} |" for name, value in metrics.items())
    text = f"""# UperNet on {config.model}, {len(classes)} classes

ConvNeXt V{variant.version} as the backbone of UperNet, trained by `convnext` from
{_first_weights(config)} with recipe `{config.recipe}`:
{config.epochs} epochs of {images[0]} images, crops of {config.image_size} pixels, batch {config.batch_size}, seed
{config.seed}.

| on {images[1]} validation images | |
|---|---|
{figures}

In percent, of the last epoch's weights, over all pixels that have a class. Classes: {_names(classes)}.

    convnext predict {folder} IMAGES --out FOLDER
    convnext evaluate {folder} DATA

The whole configuration is in `config.json`, the machine in `environment.json`, every epoch in `metrics.jsonl`, figures
for each class in `per_class.csv`.

![curves](curves.png)

![confusion matrix](confusion.png)

![image, truth, prediction](gallery.png)

Measured on the images above alone: how it does on other cameras, places or things is not known. {LICENCE}
"""
    with whole_file(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
