"""The model card of a classification run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnext.reports.card import Card, first_weights, names, on_other, write_card
from convnext.runs.directory import Run
from convnext.tasks.classify.config import ClassifyConfig


def write_classification_card(
    folder: Path,
    config: ClassifyConfig,
    metrics: dict[str, float],
    *,
    classes: Sequence[str],
    images: tuple[int, int],
    weakest: str,
) -> None:
    """Write `folder/README.md`; `images` are the counts of training and validation images, `weakest` a line."""
    card = Card(
        title=f"{config.model}, {len(classes)} classes",
        trained=f"""trained by `convnext` from
{first_weights(config)} with recipe `{config.recipe}`: {Run(folder).duration()} of
{images[0]} images at {config.image_size} pixels, batch {config.batch_size}, seed {config.seed}.""",
        measured=f"on {images[1]} validation images",
        metrics=metrics,
        digits=4,
        explained=f"top1 and top5 are in percent, of the last epoch's weights. Classes: {names(classes)}.",
        weakest=weakest,
        commands=[f"convnext predict {folder} IMAGE", f"convnext evaluate {folder} DATA"],
        files=",\nfigures for each class in `per_class.csv`",
        pictures=[
            [("curves.png", "learning curves")],
            [("confusion.png", "confusion matrix")],
            [("mistakes.png", "worst mistakes")],
        ],
        limits=on_other("people"),
    )
    write_card(folder, config, card)
