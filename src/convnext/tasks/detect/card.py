"""The model card of a detection run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convnext.reports.card import Card, first_weights, names, on_other, write_card
from convnext.runs.directory import Run
from convnext.tasks.detect.config import DetectConfig


def write_detection_card(
    folder: Path,
    config: DetectConfig,
    metrics: dict[str, float],
    *,
    classes: Sequence[str],
    images: tuple[int, int],
    weakest: str,
) -> None:
    """Write `folder/README.md`; `images` are the counts of training and validation images, `weakest` a line."""
    kind = ("Cascade " if config.cascade else "") + ("Mask R-CNN" if config.masks else "R-CNN")
    card = Card(
        title=f"{kind} on {config.model}, {len(classes)} classes",
        trained=f"""as the backbone of {kind}, trained by `convnext` from
{first_weights(config)} with recipe `{config.recipe}`:
{Run(folder).duration()} of {images[0]} images, batch {config.batch_size}, seed {config.seed}.""",
        measured=f"on {images[1]} validation images",
        metrics=metrics,
        digits=2,
        explained=f"""COCO's average precision and recall in percent, of the last epoch's weights; s, m and l are small,
medium and large objects. Classes: {names(classes)}.""",
        weakest=weakest,
        commands=[f"convnext predict {folder} IMAGES --out FOLDER", f"convnext evaluate {folder} DATA"],
        files=""", figures
for each class in `per_class.csv`, all detections on the validation images in `detections.json`""",
        pictures=[
            [("curves.png", "curves"), ("precision_recall.png", "precision and recall")],
            [("gallery.png", "truth and predictions")],
        ],
        limits=on_other("objects"),
    )
    write_card(folder, config, card)
