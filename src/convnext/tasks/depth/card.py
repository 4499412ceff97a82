"""Words of a depth estimator's card."""

from __future__ import annotations

from convnext.tasks.card.words import CardWords
from convnext.tasks.depth.config import DepthConfig

_SNIPPET = """import convnext

model = convnext.load(".")
depths = model("photo.jpg")
print(depths.shape, depths.min(), depths.max())"""


def depth_words(config: DepthConfig) -> CardWords:
    """The task's part of a card."""
    return CardWords(
        title=f"Depth by {config.model}",
        architecture="as the backbone of UperNet with one output, the depth",
        papers=("upernet",),
        explained=f"Means over the validation images, of the pixels whose depth is known. abs_rel is the error as a "
        f"share of the depth, rmse and mae are in the unit of the depths (a depth map's number divided by "
        f"{config.depth_scale:g}), delta1 to delta3 the percent of pixels less than 1.25, 1.25² and 1.25³ times too "
        "near or too far.",
        intended="Saying of every pixel how far away it is, in scenes like those it was trained on.",
        out_of_scope="Scenes of other distances, and cameras of another angle of view: depths are off by a factor.",
        snippet=_SNIPPET,
        pictures=[("curves.png", "learning curves"), ("gallery.png", "image, truth and prediction")],
        unit="",
    )
