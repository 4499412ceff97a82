"""The published weights: what there is, and how to get it.

Names are those of the official files without `_ema`, and say `22k_1k` wherever a 22K model was fine-tuned on
ImageNet-1K. The official V2 files of that kind are called `22k` alone, though their heads have 1000 classes;
`find` takes the file's own name too. Top-1 is ImageNet-1K accuracy in percent at the entry's image size.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from convnext.errors import InputError, WeightsError, nearest
from convnext.storage import download as transfer
from convnext.variants import VARIANTS

log = logging.getLogger("convnext")

BASE_URL = "https://dl.fbaipublicfiles.com/convnext/"
LARGEST_WEIGHTS = 2**34
"""Bytes of a file, at most: several times the largest model's weights."""


@dataclass(frozen=True)
class PublishedWeights:
    """One published file; `path` is relative to the base address, `num_classes` is 0 for a file without a head."""

    name: str
    path: str
    variant: str
    image_size: int
    num_classes: int
    top1: float | None

    @property
    def url(self) -> str:
        """Its address; `CONVNEXT_WEIGHTS_URL` names a mirror to use instead of the official server."""
        return f"{os.environ.get('CONVNEXT_WEIGHTS_URL', BASE_URL).rstrip('/')}/{self.path}"

    @property
    def licence(self) -> str:
        """Of the weights: V2's are for non-commercial use only."""
        return "CC-BY-NC-4.0" if VARIANTS[self.variant].version == 2 else "MIT"


def _v2(size: str, trained: str, image_size: int, num_classes: int, top1: float | None) -> PublishedWeights:
    variant = f"convnextv2_{size}"
    folder, file = {
        "1k_fcmae": ("pt_only", f"1k_{image_size}_fcmae"),
        "1k": ("im1k", f"1k_{image_size}_ema"),
        "22k_1k": ("im22k", f"22k_{image_size}_ema"),
    }[trained]
    suffix = f"{image_size}_fcmae" if trained == "1k_fcmae" else f"{image_size}"
    name = f"{variant}_{trained.removesuffix('_fcmae')}_{suffix}"
    return PublishedWeights(name, f"convnextv2/{folder}/{variant}_{file}.pt", variant, image_size, num_classes, top1)


def _v1(size: str, trained: str, image_size: int, top1: float | None, ema: str = "") -> PublishedWeights:
    variant = f"convnext_{size}"
    name = f"{variant}_{trained}_{image_size}"
    num_classes = 21841 if trained == "22k" else 1000
    return PublishedWeights(name, f"{name}{ema}.pth", variant, image_size, num_classes, top1)


_V2_22K = {
    "nano": {224: 82.1, 384: 83.4},
    "tiny": {224: 83.9, 384: 85.1},
    "base": {224: 86.8, 384: 87.7},
    "large": {224: 87.3, 384: 88.2},
    "huge": {384: 88.7, 512: 88.9},
}
_V1_22K = {
    "tiny": {224: 82.9, 384: 84.1},
    "small": {224: 84.6, 384: 85.8},
    "base": {224: 85.8, 384: 86.8},
    "large": {224: 86.6, 384: 87.5},
    "xlarge": {224: 87.0, 384: 87.8},
}
_V1_384 = {"base": 85.1, "large": 85.5}
_V2_SIZES = [variant.name.removeprefix("convnextv2_") for variant in VARIANTS.values() if variant.version == 2]

_ENTRIES = [
    *(_v2(size, "1k_fcmae", 224, 0, None) for size in _V2_SIZES),
    *(_v2(size, "1k", 224, 1000, VARIANTS[f"convnextv2_{size}"].top1) for size in _V2_SIZES),
    *(_v2(size, "22k_1k", side, 1000, top1) for size, row in _V2_22K.items() for side, top1 in row.items()),
    *(_v1(size, "1k", 224, VARIANTS[f"convnext_{size}"].top1, "_ema") for size in ("tiny", "small", "base", "large")),
    *(_v1(size, "1k", 384, top1) for size, top1 in _V1_384.items()),
    *(_v1(size, "22k", 224, None) for size in _V1_22K),
    *(
        _v1(size, "22k_1k", side, top1, "_ema" if size == "xlarge" else "")
        for size, row in _V1_22K.items()
        for side, top1 in row.items()
    ),
]
_BY_NAME = {entry.name: entry for entry in _ENTRIES}
_BY_FILE = {Path(entry.path).stem: entry for entry in _ENTRIES}


def list_weights() -> list[PublishedWeights]:
    """Every published file."""
    return list(_ENTRIES)


def lookup(name: str) -> PublishedWeights | None:
    """The entry of that name or file name (without suffix), if there is one."""
    return _BY_NAME.get(name) or _BY_FILE.get(name)


def find(name: str) -> PublishedWeights:
    """The entry of that name or file name (without suffix).

    Raises:
        WeightsError: no such weights; the nearest names are given.
    """
    if entry := lookup(name):
        return entry
    hint = nearest(name, list(_BY_NAME))
    raise WeightsError(
        f"no published weights '{name}'; {hint if hint.startswith('nearest') else 'see `convnext models`'}"
    )


def download_published(entry: PublishedWeights) -> Path:
    """The entry's file in PyTorch's hub cache (`TORCH_HOME`), fetched first if it is not there.

    Raises:
        WeightsError: no network, no such file on the server, or a transfer that was cut short.
    """
    import torch

    path = Path(torch.hub.get_dir(), "checkpoints", Path(entry.path).name)
    if path.is_file():
        return path
    try:
        transfer.download(entry.url, path, most=LARGEST_WEIGHTS, show=True)
    except InputError as error:
        raise WeightsError(f"{error}; download it elsewhere and pass the file") from None
    return path


def published_meta(entry: PublishedWeights) -> dict:
    """What is known of these weights' use: variant, licence, the image size they were trained at, and classes."""
    from convnext.weights.class_names import published_classes

    known = {"variant": entry.variant, "licence": entry.licence, "image_size": entry.image_size}
    return known | published_classes(entry.num_classes)
