"""The model card of a pre-training run."""

from __future__ import annotations

from pathlib import Path

from convnext.reports.card import Card, first_weights, write_card
from convnext.runs.directory import Run
from convnext.tasks.pretrain.fcmae.config import PretrainConfig


def write_pretraining_card(
    folder: Path, config: PretrainConfig, metrics: dict[str, float], *, images: int, weakest: str
) -> None:
    """Write `folder/README.md` for a pre-training run on so many images; `weakest` is a line."""
    colour = (
        "A reconstruction shows structure, not colour: each patch's mean and deviation are those of the true image. "
        if config.norm_pix_loss
        else ""
    )
    card = Card(
        title=f"{config.model}, pre-trained",
        trained=f"""pre-trained by `convnext` from
{first_weights(config)} as a masked autoencoder (FCMAE), recipe
`{config.recipe}`: {Run(folder).duration()} of {images} images at {config.image_size} pixels, batch {config.batch_size},
mask ratio {config.mask_ratio} of patches of {config.patch_size} pixels, seed {config.seed}. No labels were used.""",
        measured="at the end",
        metrics=metrics,
        digits=4,
        explained="""`loss` is the last epoch's mean squared error on hidden patches; `feature_distance` the smallest
mean cosine distance between channels over the blocks (near 0 is collapse); `knn` and `linear_probe`, where they were
asked for, top-1 in percent by frozen features.""",
        weakest=weakest,
        commands=[config.follow_up(folder), f"convnext analyze reconstruct {folder} IMAGES --out FOLDER"],
        files="",
        pictures=[
            [("reconstructions.png", "image, visible patches, reconstruction")],
            [("curves.png", "curves"), ("feature_distances.png", "feature distances")],
        ],
        limits=colour,
    )
    write_card(folder, config, card)
