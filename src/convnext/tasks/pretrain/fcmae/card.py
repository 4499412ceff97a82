"""Words of a pre-trained encoder's card."""

from __future__ import annotations

from convnext.tasks.card.words import CardWords
from convnext.tasks.pretrain.fcmae.config import PretrainConfig

_SNIPPET = """import convnext

model = convnext.load(".")
print(model.embed("photo.jpg").shape)"""


def pretraining_words(config: PretrainConfig) -> CardWords:
    """The task's part of a card."""
    colour = (
        " A reconstruction shows structure, not colour: each patch's mean and deviation are those of the true image."
        if config.norm_pix_loss
        else ""
    )
    return CardWords(
        title=f"{config.model}, pre-trained",
        architecture=f"as the encoder of a masked autoencoder (FCMAE), {config.mask_ratio:.0%} of patches of "
        f"{config.patch_size} pixels hidden",
        papers=(),
        explained="`loss` is the last epoch's mean squared error on hidden patches; `feature_distance` the smallest "
        "mean cosine distance between channels over the blocks (near 0 is collapse); `knn` and `linear_probe`, where "
        f"they were asked for, top-1 in percent by frozen features.{colour}",
        intended="First weights of a training on images like these (`--init`), and embeddings of them. No labels were "
        "used.",
        out_of_scope="It answers with embeddings alone: classes, boxes and masks need a training with labels.",
        snippet=_SNIPPET,
        pictures=[
            ("reconstructions.png", "image, visible patches, reconstruction"),
            ("curves.png", "learning curves"),
            ("feature_distances.png", "feature distances by block"),
        ],
        unit="",
    )
