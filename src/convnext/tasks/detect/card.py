"""Words of a detector's card."""

from __future__ import annotations

from collections.abc import Sequence

from convnext.printing import counted
from convnext.reports.card import names
from convnext.tasks.card.words import CardWords
from convnext.tasks.detect.config import DetectConfig

_SNIPPET = """import convnext

model = convnext.load(".")
for found in model("photo.jpg"):
    print(found["label"], found["score"], found["box"])"""


def detection_words(config: DetectConfig, classes: Sequence[str]) -> CardWords:
    """The task's part of a card, for a model of these classes."""
    count = counted(len(classes), "class", "classes")
    kind = ("Cascade " if config.cascade else "") + ("Mask R-CNN" if config.masks else "R-CNN")
    first, last = config.short_sides
    images = "whole images and random parts" if config.random_crop else "whole images"
    outlines = " and their outlines" if config.masks else ""
    return CardWords(
        title=f"{kind} on {config.model}, {count}",
        architecture=f"as the backbone of {kind} for {count}",
        papers=("mask_rcnn", *(("cascade_rcnn",) if config.cascade else ())),
        explained="COCO's average precision and recall in percent, of the last epoch's weights on validation images; "
        "s, m and l are small, medium and large objects.",
        intended=f"Finding objects{outlines} of these classes: {names(classes)}.",
        out_of_scope="Objects of other classes are passed over, or taken for one of these.",
        snippet=_SNIPPET,
        pictures=[
            ("curves.png", "learning curves"),
            ("precision_recall.png", "precision by recall"),
            ("gallery.png", "truth and predictions"),
        ],
        unit="objects",
        measure="AP",
        trained_on="" if config.scale_jitter else f"{images}, the short side of {first} to {last} pixels",
    )
