"""The model card of a depth run."""

from __future__ import annotations

from pathlib import Path

from convnext.reports.card import Card, first_weights, on_other, write_card
from convnext.runs.directory import Run
from convnext.tasks.depth.config import DepthConfig


def write_depth_card(
    folder: Path, config: DepthConfig, metrics: dict[str, float], *, images: tuple[int, int], weakest: str
) -> None:
    """Write `folder/README.md`; `images` are the counts of training and validation images, `weakest` a line."""
    card = Card(
        title=f"Depth by {config.model}",
        trained=f"""as the backbone of UperNet, trained by `convnext` to say how far away every pixel is, from
{first_weights(config)} with recipe `{config.recipe}`:
{Run(folder).duration()} of {images[0]} images, crops of {config.image_size} pixels, batch {config.batch_size}, seed
{config.seed}.""",
        measured=f"on {images[1]} validation images",
        metrics=metrics,
        digits=4,
        explained=f"""Means over the images, of the pixels whose depth is known. `abs_rel` is the error as a share
of the depth, `rmse` and `mae` are in the unit of the depths (a depth map's number divided by
{config.depth_scale:g}), `delta1` to `delta3` the percent of pixels less than 1.25, 1.25² and 1.25³ times too near or
too far.""",
        weakest=weakest,
        commands=[f"convnext predict {folder} IMAGES --out FOLDER", f"convnext evaluate {folder} DATA"],
        files="",
        pictures=[[("curves.png", "curves")], [("gallery.png", "image, truth, prediction")]],
        limits=on_other("scenes and other cameras"),
    )
    write_card(folder, config, card)
