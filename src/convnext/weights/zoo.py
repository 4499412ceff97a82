"""The published weights by name, and how to get them. `find` takes a file's own name too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from convnext.errors import InputError, WeightsError, nearest
from convnext.storage import download as transfer
from convnext.storage.files import sha256_of
from convnext.storage.hub import PREFIX
from convnext.weights import hub
from convnext.weights.class_names import published_classes
from convnext.weights.licences import LICENCE, LICENCE_FROM
from convnext.weights.published import BASE_URL, CENTRE, CLIP_COLOURS, DINOV3_URL, PUBLISHED, PublishedWeights
from convnext.weights.published_detectors import PUBLISHED_DETECTORS

LARGEST_WEIGHTS = 2**34
"""Bytes of a file, at most: several times the largest model's weights."""

_ALL = [*PUBLISHED, *PUBLISHED_DETECTORS]
_BY_NAME = {entry.name: entry for entry in _ALL}
_BY_FILE = {PurePosixPath(entry.url).stem: entry for entry in _ALL if PurePosixPath(entry.url).suffix[:3] == ".pt"}
_BY_REPOSITORY = {
    f"{PREFIX}{'/'.join(entry.url.removeprefix(PREFIX).split('/')[:2])}": entry
    for entry in _ALL
    if entry.url.startswith(PREFIX)
}


def list_weights() -> list[PublishedWeights]:
    """Every published file."""
    return list(_ALL)


def lookup(name: str) -> PublishedWeights | None:
    """The entry of that name, file name (without suffix) or `hf:ORG/NAME`, if there is one."""
    return _BY_NAME.get(name) or _BY_FILE.get(name) or _BY_REPOSITORY.get(name)


def find(name: str) -> PublishedWeights:
    """The entry of that name, file name (without suffix) or `hf:ORG/NAME`.

    Raises:
        WeightsError: no such weights; the nearest names are given.
    """
    if entry := lookup(name):
        return entry
    hint = nearest(name, list(_BY_NAME))
    raise WeightsError(
        f"no published weights '{name}'; {hint if hint.startswith('nearest') else 'see `convnext models`'}"
    )


def repository_holding(entry: PublishedWeights) -> str | None:
    """The repository on the Hugging Face Hub, `ORG/NAME`, that holds an entry's file, or timm's copy of it; None where
    there is none."""
    if entry.url.startswith(PREFIX):
        return "/".join(entry.url.removeprefix(PREFIX).split("/")[:2])
    from timm.models import get_pretrained_cfg, list_pretrained

    copies = {getattr(get_pretrained_cfg(name), "url", None): name for name in list_pretrained(f"{entry.variant}.*")}
    return f"timm/{copies[entry.url]}" if entry.url in copies else None


def address_of(entry: PublishedWeights) -> str:
    """Address that a published file is fetched from; `CONVNEXT_WEIGHTS_URL` names a mirror of the official server."""
    mirror = os.environ.get("CONVNEXT_WEIGHTS_URL", BASE_URL).rstrip("/")
    return f"{mirror}/{entry.url.removeprefix(BASE_URL)}" if entry.url.startswith(BASE_URL) else entry.url


def download_published(entry: PublishedWeights) -> Path:
    """The entry's file in PyTorch's hub cache (`TORCH_HOME`) or the Hugging Face Hub's, fetched first if need be.

    Raises:
        WeightsError: no network, no such file on the server, a licence that is to be accepted first, a transfer that
            was cut short, no room, or another file than the one that was published.
    """
    import torch

    if entry.url.startswith(PREFIX):
        organisation, name, *file = entry.url.removeprefix(PREFIX).split("/")
        return hub.download_repository(f"{organisation}/{name}", *file)
    path = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(entry.url).name)
    if path.is_file():
        return path

    def check(part: Path) -> None:
        if not (digest := sha256_of(part)).startswith(entry.sha256):
            found = f"its SHA-256 begins with {digest[: len(entry.sha256)]}, not {entry.sha256}"
            raise transfer.Refused(f"{address_of(entry)} is not the file that was published: {found}")

    try:
        transfer.download(address_of(entry), path, most=LARGEST_WEIGHTS, check=check, show=True)
    except InputError as error:
        first = "accept its licence at the publisher's, " if entry.url.startswith(DINOV3_URL) else ""
        raise WeightsError(f"{error}; {first}download it elsewhere and pass the file") from None
    return path


def published_meta(entry: PublishedWeights) -> dict:
    """Facts for the use of these weights: variant, task, licence, the image size they were trained at, preprocessing
    where it is not the papers', and classes."""
    known = {
        "variant": entry.variant,
        "task": entry.task,
        LICENCE: entry.licence,
        LICENCE_FROM: entry.name,
        "image_size": entry.image_size,
    }
    return known | _preprocessing(entry) | published_classes(entry.num_classes)


def clip_meta() -> dict:
    """Metadata of an OpenCLIP image tower of no published name: it embeds; most were trained at 256 pixels."""
    return {"task": "embed"} | _rule(256, {**CLIP_COLOURS, "crop": CENTRE})


def _preprocessing(entry: PublishedWeights) -> dict:
    return _rule(entry.image_size, entry.preprocessing) if entry.preprocessing else {}


def _rule(size: int, own: Mapping[str, Any]) -> dict:
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    usual = {"interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    rule = {"image_size": size, **usual, **own, "in_chans": 3}
    return {"preprocessing": {name: list(value) if isinstance(value, tuple) else value for name, value in rule.items()}}
