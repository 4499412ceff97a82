"""Words of a classifier's card."""

from __future__ import annotations

from collections.abc import Sequence

from convnext.printing import counted
from convnext.reports.card import names
from convnext.tasks.card.words import CardWords
from convnext.tasks.classify.config import ClassifyConfig

_SNIPPET = """import convnext

model = convnext.load(".")
for label in model("photo.jpg", top_k=3):
    print(label["label"], label["score"])"""


def classification_words(config: ClassifyConfig, classes: Sequence[str]) -> CardWords:
    """The task's part of a card, for a model of these classes."""
    count = counted(len(classes), "class", "classes")
    several = config.multi_label
    kind = "independent output" if several else "output"
    explained = (
        "mAP is the mean average precision in percent; macro_f1 counts a score above 0.5 as yes"
        if several
        else "top1 and top5 are in percent: the right class is the answer, or among the five likeliest; "
        "balanced_accuracy is the mean over the classes"
    )
    return CardWords(
        title=f"{config.model}, {count}",
        architecture=f"with a linear layer of {counted(len(classes), kind)}",
        papers=(),
        explained=f"{explained}; ece is the expected calibration error in percent, brier the mean squared distance of "
        "the scores from the truth. Of the last epoch's weights, on validation images.",
        intended=f"Saying which of these classes an image shows: {names(classes)}.",
        out_of_scope=(
            "An image that shows something else gets scores for these classes all the same."
            if several
            else "An image that shows none of these classes is given one of them all the same."
        ),
        snippet=_SNIPPET,
        pictures=[
            ("curves.png", "learning curves"),
            ("confusion.png", "confusion matrix"),
            ("class_curves.png", "precision by recall, and ROC curves, by class"),
            ("mistakes.png", "worst mistakes"),
        ],
        measure="f1",
    )
