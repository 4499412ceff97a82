"""The model card of a segmentation run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnext.reports.card import Card, first_weights, names, on_other, write_card
from convnext.runs.directory import Run
from convnext.tasks.segment.config import SegmentConfig


def write_segmentation_card(
    folder: Path,
    config: SegmentConfig,
    metrics: dict[str, float],
    *,
    classes: Sequence[str],
    images: tuple[int, int],
    weakest: str,
) -> None:
    """Write `folder/README.md`; `images` are the counts of training and validation images, `weakest` a line."""
    card = Card(
        title=f"UperNet on {config.model}, {len(classes)} classes",
        trained=f"""as the backbone of UperNet, trained by `convnext` from
{first_weights(config)} with recipe `{config.recipe}`:
{Run(folder).duration()} of {images[0]} images, crops of {config.image_size} pixels, batch {config.batch_size}, seed
{config.seed}.""",
        measured=f"on {images[1]} validation images",
        metrics=metrics,
        digits=2,
        explained=f"""In percent, of the last epoch's weights, over all pixels that have a class. Classes:
{names(classes)}.""",
        weakest=weakest,
        commands=[f"convnext predict {folder} IMAGES --out FOLDER", f"convnext evaluate {folder} DATA"],
        files=", figures\nfor each class in `per_class.csv`",
        pictures=[
            [("curves.png", "curves")],
            [("confusion.png", "confusion matrix")],
            [("gallery.png", "image, truth, prediction")],
        ],
        limits=on_other("things"),
    )
    write_card(folder, config, card)
