"""Data that a model was trained on, stored with its weights; of older runs, in the `config.json` beside them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from convnext.data.splits import HoldOut, Origin
from convnext.runs.directory import parsed, read_text
from convnext.storage.exports import export_meta, is_export
from convnext.weights.files import locate, read_own_meta

log = logging.getLogger("convnext")


def origin_of_model(source: str | Path, kind: Any) -> Origin | None:
    """The data that a model, or what an export was made of, was trained on; None for weights that no run of this task,
    whose config is `kind`, wrote."""
    path = locate(source)
    own = export_meta(path) if is_export(path) else read_own_meta(path)
    if own is None or own.get("task") != kind.TASK:
        return None
    if "origin" in own:
        return Origin.from_dict(own["origin"])
    config = config_beside(source)
    if config is None:
        log.warning("%s does not say what it was trained on: undivided data are taken for it", source)
    fraction = kind.val_fraction if config is None else config["val_fraction"]
    return Origin(HoldOut(fraction, kind.OLD_RULE))


def config_beside(source: str | Path) -> dict[str, Any] | None:
    """The `config.json` of the run that weights lie in, if they do."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent.parent if path.parent.name == "checkpoints" else path.parent
    config = parsed(read_text(folder / "config.json"))
    return config if "val_fraction" in config else None
