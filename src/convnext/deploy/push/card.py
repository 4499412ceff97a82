"""The model card of a pushed run: the run's own, with the Hub's metadata in front, and the pictures that it shows."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.errors import InputError
from convnext.printing import printable
from convnext.runs.directory import CHARTS
from convnext.runs.summary import RunSummary
from convnext.tasks.card.metadata import base_model
from convnext.tasks.card.write import CARD_FILE
from convnext.tasks.definition import TaskDefinition
from convnext.weights.licences import LICENCE, licence_named, licence_on_hub

_PICTURE = re.compile(r"""!\[[^\]]*\]\(([^)\s]+)[^)]*\)|<img\b[^>]*?\bsrc=["']([^"']+)["'][^>]*>""")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".svg", ".webp", ".gif")
_FOLDERS = ("checkpoints", "tensorboard", "wandb", "hub")
"""Folders of a run from which nothing is published."""


def hub_metadata(run: RunSummary, task: TaskDefinition, meta: Mapping[str, Any], library: str) -> dict[str, Any]:
    """Metadata of a model card on the Hub, as far as the run knows them.

    Args:
        run: the run.
        task: its task.
        meta: metadata of its weights.
        library: the one that opens the pushed files.
    """
    base = base_model(str(run.options.get("init") or ""))
    return {
        **licence_on_hub(licence_named(meta.get(LICENCE))),
        "library_name": library,
        **({"pipeline_tag": task.pipeline_tag} if task.pipeline_tag else {}),
        **({"base_model": base} if base else {}),
        "tags": ["convnext", run.model],
    }


def with_metadata(text: str, known: Mapping[str, Any], notes: list[str]) -> str:
    """A card with metadata in front: its own, and of `known` what it does not say.

    The library is that of the pushed files, and a licence in `known`, which the weights have, stands for the card's.
    `notes` gets a line where the card said another one. `InputError` for a card whose metadata cannot be read.
    """
    from huggingface_hub import ModelCard

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # which finds a card without metadata worth a line
    try:
        card = ModelCard(text)
    except Exception as error:  # YAML's, and of values that it did not expect
        reason = " ".join(printable(error).split())[:200]
        raise InputError(f"the metadata in front of {CARD_FILE} cannot be read: {reason}") from None
    data = card.data
    licence, said = _licence(known), _licence({name: data.get(name) for name in ("license", "license_name")})
    for name, value in known.items():
        if name == "tags":
            own = data.get(name) or []
            data[name] = list(dict.fromkeys([*([own] if isinstance(own, str) else own), *value]))
        elif name == "library_name" or (name.startswith("license") and said != licence) or data.get(name) is None:
            data[name] = value
    if licence and said != licence:
        if "license_name" not in known:
            data.pop("license_name")
        data.pop("license_link")
        if said:
            notes.append(f"the card says {printable(said)}; the weights are licensed {licence}, which is pushed")
    return str(card)


def _licence(metadata: Mapping[str, Any]) -> str:
    return licence_named(metadata.get("license_name")) or licence_named(metadata.get("license"))


def pictures_shown(text: str, run: Path) -> list[str]:
    """Pictures of the run that a card shows, by their paths within the run."""
    names = dict.fromkeys(name for found in _PICTURE.finditer(text) if (name := _name(found)) is not None)
    return [name for name in names if _is_picture(name, run)]


def without_galleries(text: str) -> str:
    """A card that shows charts alone, and no images of the data."""
    return _PICTURE.sub(lambda found: "" if is_gallery(_name(found) or "") else found[0], text)


def is_gallery(name: str) -> bool:
    """Whether a picture may show images of the data: all but charts."""
    return name not in CHARTS


def _name(found: re.Match[str]) -> str | None:
    name = found[1] or found[2]
    return None if "://" in name else name.removeprefix("./")


def _is_picture(name: str, run: Path) -> bool:
    path = run / name
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or path.suffix.lower() not in _SUFFIXES or parts[0] in _FOLDERS:
        return False
    return path.is_file() and path.resolve().is_relative_to(run.resolve())
