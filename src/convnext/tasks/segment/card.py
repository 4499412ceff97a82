"""Words of a segmenter's card."""

from __future__ import annotations

from collections.abc import Sequence

from convnext.printing import counted
from convnext.reports.card import names
from convnext.tasks.card.words import CardWords
from convnext.tasks.segment.config import SegmentConfig

_SNIPPET = """import convnext

model = convnext.load(".")
labels = model("photo.jpg")
print(labels.shape, model.classes[labels[0, 0]])"""


def segmentation_words(config: SegmentConfig, classes: Sequence[str]) -> CardWords:
    """The task's part of a card, for a model of these classes."""
    count = counted(len(classes), "class", "classes")
    return CardWords(
        title=f"UperNet on {config.model}, {count}",
        architecture=f"as the backbone of UperNet for {count}",
        papers=("upernet",),
        explained="In percent, of the last epoch's weights on validation images, over all pixels that have a class: "
        "mIoU is the mean over the classes of intersection over union.",
        intended=f"Saying of every pixel which of these classes it shows: {names(classes)}.",
        out_of_scope="Every pixel is given one of these classes, also where it shows none of them.",
        snippet=_SNIPPET,
        pictures=[
            ("curves.png", "learning curves"),
            ("confusion.png", "confusion matrix"),
            ("gallery.png", "image, truth and prediction"),
        ],
        unit="pixels",
        measure="iou",
    )
