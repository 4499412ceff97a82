"""Weights from the Hugging Face hub: a repository's `model.safetensors` and its configuration."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from pathlib import Path

from convnext.errors import WeightsError
from convnext.weights.class_names import published_classes

_PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_ID = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}")
_FOLDERS = (
    "run",
    "runs",
    "out",
    "output",
    "outputs",
    "model",
    "models",
    "checkpoints",
    "weights",
    "data",
    "demo",
    "tmp",
)

PREFIX = "hf:"

log = logging.getLogger("convnext")


def repository_of(source: str) -> str | None:
    """The repository that `hf:ORGANISATION/NAME` names, or for one release more the bare form; None for a path.

    A bare name whose first part is what folders are called, or lies here, is a path: whoever owns that name on the hub
    would answer for a run that is not there.

    Raises:
        WeightsError: `hf:` before what is no repository.
    """
    if source.startswith(PREFIX):
        name = source.removeprefix(PREFIX)
        if _ID.fullmatch(name) is None:
            raise WeightsError(f"{source} names no repository; the form is {PREFIX}ORGANISATION/NAME")
        return name
    first, suffix = source.split("/")[0], Path(source).suffix
    if _ID.fullmatch(source) is None or suffix in {".safetensors", ".pt", ".pth", ".bin"}:
        return None
    if first.lower() in _FOLDERS or Path(first).is_dir():
        return None
    log.warning("%s is looked for on the Hugging Face hub; write %s%s", source, PREFIX, source)
    return source


def download_repository(repository: str) -> Path:
    """The repository's `model.safetensors`, or `pytorch_model.bin`, in the hub's cache, with its configuration files
    beside it.

    Raises:
        WeightsError: no network, no such repository, or one without either.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # without a network: 22 lines of retries
    try:
        try:
            path = hf_hub_download(repository, "model.safetensors")
        except EntryNotFoundError:  # older repositories; read without running code from it
            path = hf_hub_download(repository, "pytorch_model.bin")
    except (OSError, ValueError, EntryNotFoundError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightsError(
            f"'{repository}' is no file or folder here, and cannot be fetched from the Hugging Face hub: {reason}"
        ) from None
    for name in ("config.json", "preprocessor_config.json"):
        with suppress(OSError, EntryNotFoundError):  # not every repository has them, and the weights may do
            hf_hub_download(repository, name)
    return Path(path)


def hub_meta(folder: Path) -> dict:
    """Classes and preprocessing from the configuration of transformers or timm in `folder`; empty if there is none."""
    config = _read_json(folder / "config.json")
    return _classes(config) | _preprocessing(config, _read_json(folder / "preprocessor_config.json"))


def _classes(config: dict) -> dict:
    labels = config.get("id2label") or dict(enumerate(config.get("label_names", [])))
    classes = [str(labels[key]) for key in sorted(labels, key=int)]
    count = len(classes) or config.get("num_classes", 0)
    if not classes or classes[0].startswith("tench"):
        # Some of ImageNet's descriptions stand for two classes each; its WordNet ids are unique.
        return published_classes(count)
    return {"task": "classify", "multi_label": False, "classes": classes}


def _preprocessing(config: dict, processor: dict) -> dict:
    """The fields of `convnext.data.images.preprocessing.Preprocessing`; nothing unless the files say all of them."""
    if timm := config.get("pretrained_cfg"):
        size, crop = timm.get("input_size", [0, 0])[-1], timm.get("crop_pct")
        squash = timm.get("crop_mode") == "squash"
        mean, std, interpolation = timm.get("mean"), timm.get("std"), timm.get("interpolation")
    else:
        edge = processor.get("size")
        size = (edge.get("shortest_edge") if isinstance(edge, dict) else edge) or 0
        crop = processor.get("crop_pct") or 0.875
        squash = size >= 384  # transformers warps from here on, as the papers do
        mean, std = processor.get("image_mean"), processor.get("image_std")
        interpolation = _PILLOW_FILTERS.get(processor.get("resample", -1))
    if not (size and crop and mean and std and interpolation):
        return {}
    rule = {"image_size": size, "crop": 1.0 if squash else crop, "interpolation": interpolation}
    return {"preprocessing": rule | {"mean": mean, "std": std, "in_chans": len(mean)}}


def _read_json(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from None
    return content if isinstance(content, dict) else {}
