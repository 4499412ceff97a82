"""Class names of the published heads: WordNet ids, in the order of the outputs, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SUBSETS = {1000: "imagenet-1k", 11821: "imagenet-12k", 21841: "imagenet-22k"}
_WORDNET_ID = re.compile(r"n\d{8}")


def classes_for(num_classes: int) -> tuple[list[str], dict[str, str]] | None:
    """WordNet ids (as in ImageNet's folder names) and a description of each; None if no such head was published."""
    if num_classes not in _SUBSETS:
        return None
    from timm.data import ImageNetInfo

    info = ImageNetInfo(_SUBSETS[num_classes])
    classes = list(info.label_names())
    return classes, {name: info.label_name_to_description(name) for name in classes}


def imagenet_classes() -> list[str]:
    """The 1000 WordNet ids of ImageNet-1K, in the order of the published heads."""
    found = classes_for(1000)
    assert found is not None
    return found[0]


def published_classes(num_classes: int) -> dict:
    """The metadata of a published head: task, classes and their descriptions; empty if there is no such head."""
    found = classes_for(num_classes)
    if found is None:
        return {}
    return {"task": "classify", "multi_label": False, "classes": found[0], "descriptions": found[1]}


def are_wordnet_ids(classes: Sequence[str]) -> bool:
    """Whether classes are named as the folders of ImageNet's are, such as "n01440764"."""
    return bool(classes) and all(_WORDNET_ID.fullmatch(name) for name in classes)


def descriptions_of(classes: Sequence[str]) -> dict[str, str]:
    """Descriptions of classes named by WordNet ids, as ImageNet's folders are; empty for others."""
    if not are_wordnet_ids(classes):
        return {}
    known: dict[str, str] = {}
    for count in sorted(_SUBSETS, reverse=True):  # for the thousand, the words of the thousand
        found = classes_for(count)
        known |= found[1] if found else {}
    return {name: known[name] for name in classes if name in known}


def short_names(classes: Sequence[str]) -> list[str]:
    """Names of classes for charts: the first word that describes a WordNet id, with the id where two share it."""
    descriptions = descriptions_of(classes)
    if not descriptions:
        return list(classes)
    first = [descriptions.get(name, name).split(",")[0] for name in classes]
    return [word if first.count(word) == 1 else f"{word} {name}" for word, name in zip(first, classes, strict=True)]
