"""Weights from the Hugging Face hub: a repository's `model.safetensors` and its configuration."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convnext.errors import InputError, WeightsError
from convnext.storage.hub import IDENTIFIER, PREFIX, hub_repository, reason_not_fetched
from convnext.weights.class_names import published_classes
from convnext.weights.licences import licence_named
from convnext.weights.published import CENTRE

_PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
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

MOST_CLASSES = 10**6
"""Classes of a model, at most."""

_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_V2 = re.compile(r"facebook/convnextv2-|timm/convnextv2_")
"""Copies of the official V2 weights, some of which name another licence."""
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)

log = logging.getLogger("convnext")


def repository_of(source: str) -> str | None:
    """The repository that `hf:ORGANISATION/NAME` names, or for one release more the bare form; None for a path.

    A bare name whose first part is what folders are called, or lies here, is a path: whoever owns that name on the hub
    would answer for a run that is not there.

    Raises:
        WeightsError: `hf:` before what is no repository.
    """
    if source.startswith(PREFIX):
        try:
            return hub_repository(source)
        except InputError as error:
            raise WeightsError(str(error)) from None
    first, suffix = source.split("/")[0], Path(source).suffix
    if IDENTIFIER.fullmatch(source) is None or suffix in {".safetensors", ".pt", ".pth", ".bin"}:
        return None
    if first.lower() in _FOLDERS or Path(first).is_dir():
        return None
    log.warning("%s is looked for on the Hugging Face hub; write %s%s", source, PREFIX, source)
    return source


def download_repository(repository: str, file: str | None = None) -> Path:
    """The repository's `file`, or its `model.safetensors` or `pytorch_model.bin`, in the hub's cache, with its
    configuration files and its card beside it.

    Raises:
        WeightsError: no network, no such repository, one without weights or whose licence is to be accepted first, or
            no room on the disk.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # without a network: 22 lines of retries
    wanted = (file,) if file else ("model.safetensors", "pytorch_model.bin")  # of older ones; no code is run from it
    try:
        path = _first_of(repository, wanted)
    except (OSError, ValueError, EntryNotFoundError) as error:
        reason = reason_not_fetched(error, wanted)
        raise WeightsError(f"{PREFIX}{repository} cannot be fetched from the Hugging Face Hub: {reason}") from None
    for name in ("config.json", "preprocessor_config.json", "README.md"):
        with suppress(OSError, EntryNotFoundError):  # not every repository has them, and the weights may do
            hf_hub_download(repository, name)
    return path


def _first_of(repository: str, names: tuple[str, ...]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name in names[:-1]:
        try:
            return Path(hf_hub_download(repository, name))
        except EntryNotFoundError:  # without a network, it is not in the cache; the other file may be
            continue
    return Path(hf_hub_download(repository, names[-1]))


def cached_repository(path: Path) -> str | None:
    """The repository, `ORG/NAME`, that a file in the Hub's cache is of; None for other files."""
    found = (_CACHED.fullmatch(part) for part in path.parts)
    return next((f"{match[1]}/{match[2]}" for match in found if match), None)


def licence_of_repository(repository: str, folder: Path) -> str:
    """The licence of a repository whose files are in `folder`: by its card or its configuration; empty if neither says.

    The official V2 weights are CC-BY-NC-4.0 whatever a copy of them says.
    """
    if _V2.match(repository):
        return "CC-BY-NC-4.0"
    try:
        card = _FRONT_MATTER.match((folder / "README.md").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        card = None
    said = dict(re.findall(r"^(license(?:_name)?): *(.+?) *$", card[1], re.MULTILINE)) if card else {}
    config = _read_json(folder / "config.json")
    timm = config.get("pretrained_cfg")
    by_config = timm.get("license") if isinstance(timm, dict) else config.get("license")
    return licence_named(said.get("license_name") or said.get("license") or by_config)


def hub_meta(folder: Path) -> dict:
    """Classes and preprocessing from the configuration of transformers or timm in `folder`; empty if there is none."""
    config, processor = _read_json(folder / "config.json"), _read_json(folder / "preprocessor_config.json")
    with _of_strangers(folder):
        return _classes(config) | _preprocessing(config, processor)


def timm_name(folder: Path) -> str | None:
    """timm's name of the weights whose `config.json` lies in `folder`, such as `convnext_tiny.in12k`; None without."""
    config = _read_json(folder / "config.json")
    with _of_strangers(folder):
        tag = (config.get("pretrained_cfg") or {}).get("tag")
        return f"{config['architecture']}.{tag}" if tag and "architecture" in config else None


@contextmanager
def _of_strangers(folder: Path) -> Iterator[None]:
    """Inside, values of other types than transformers and timm write become a `WeightsError`."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise WeightsError(f"{folder / 'config.json'} says of a model what cannot be: {error}") from None


def _classes(config: dict) -> dict:
    labels = config.get("id2label") or dict(enumerate(config.get("label_names", [])))
    classes = [str(labels[key]) for key in sorted(labels, key=int)]
    outputs = len(classes) or config.get("num_classes", 0)
    if outputs > MOST_CLASSES:  # each gets a name
        raise ValueError(f"{outputs:,} classes")
    published = published_classes(outputs)
    if published and (not classes or classes[0].startswith("tench") or classes == published["classes"]):
        # Some of ImageNet's descriptions stand for two classes each; its WordNet ids are unique.
        return published
    if not outputs:
        return {}
    several = config.get("problem_type") == "multi_label_classification"
    # Fine-tuned weights without names for their classes do not have those of the weights they began as.
    classes = classes or [str(number) for number in range(outputs)]
    return {"task": "classify", "multi_label": several, "classes": classes, "descriptions": {}}


def _preprocessing(config: dict, processor: dict) -> dict:
    """The fields of `convnext.data.images.preprocessing.Preprocessing`; nothing unless the files say all of them."""
    if timm := config.get("pretrained_cfg"):
        size, crop = (timm.get("input_size") or [0])[-1], timm.get("crop_pct")
        squash = timm.get("crop_mode") == "squash"
        crop = CENTRE if crop == 1 and not squash else crop
        mean, std, interpolation = timm.get("mean"), timm.get("std"), timm.get("interpolation")
    else:
        size, crop = _size_and_crop(processor)
        squash = crop == 1
        mean, std = processor.get("image_mean"), processor.get("image_std")
        interpolation = _PILLOW_FILTERS.get(processor.get("resample", -1))
    if not (size and crop and mean and std and interpolation):
        return {}
    rule = {"image_size": size, "crop": 1.0 if squash else crop, "interpolation": interpolation}
    return {"preprocessing": rule | {"mean": mean, "std": std, "in_chans": len(mean)}}


def _size_and_crop(processor: dict) -> tuple[int, float]:
    """Image size in pixels and crop of an image processor of transformers; crop as `Preprocessing` defines it."""
    edge, square = processor.get("size"), processor.get("crop_size")
    if isinstance(edge, dict) and "height" in edge:
        return edge["height"], 1.0
    side = (edge.get("shortest_edge") if isinstance(edge, dict) else edge) or 0
    if side and isinstance(square, dict) and processor.get("do_center_crop"):
        return square["height"], min(square["height"] / side, CENTRE)
    # The ConvNeXt processor warps from 384 on, as the papers do.
    return side, 1.0 if side >= 384 else processor.get("crop_pct") or 0.875


def _read_json(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from None
    return content if isinstance(content, dict) else {}
