"""The rules that a model is measured by, stored with its weights; of older runs, in the `config.json` beside them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from convnext.config import ClassifyConfig, DetectConfig, SegmentConfig
from convnext.data.sources.label_maps import LabelRules
from convnext.data.splits import HoldOut, Origin
from convnext.runs.directory import parsed, read_text
from convnext.weights import read_meta
from convnext.weights.files import read_own_meta

log = logging.getLogger("convnext")

KINDS: dict[str, type[ClassifyConfig] | type[DetectConfig] | type[SegmentConfig]] = {
    "classify": ClassifyConfig,
    "detect": DetectConfig,
    "segment": SegmentConfig,
}


def origin_of_model(source: str | Path) -> Origin | None:
    """The data a model was trained on; None for weights that no run of this project wrote."""
    own = read_own_meta(source)
    if own is None or own.get("task") not in KINDS:
        return None
    if "origin" in own:
        return Origin.from_dict(own["origin"])
    kind, config = KINDS[own["task"]], config_beside(source)
    if config is None:
        log.warning("%s does not say what it was trained on: undivided data are taken for it", source)
    fraction = kind.val_fraction if config is None else config["val_fraction"]
    return Origin(HoldOut(fraction, kind.OLD_RULE))


def label_rules_of_model(source: str | Path) -> LabelRules:
    """The meaning of the numbers in label maps, as a segmenter was trained with it."""
    own = read_meta(source)
    if "labels" in own:
        return LabelRules(**own["labels"])
    config = config_beside(source)
    if config is None:
        log.warning("%s does not say what numbers in label maps mean: only 255 is taken for no class", source)
        return LabelRules()
    return LabelRules.read(config["ignore_index"], config["reduce_zero_label"], config["label_map"])


def config_beside(source: str | Path) -> dict[str, Any] | None:
    """The `config.json` of the run that weights lie in, if they do."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent.parent if path.parent.name == "checkpoints" else path.parent
    config = parsed(read_text(folder / "config.json"))
    return config if "val_fraction" in config else None
