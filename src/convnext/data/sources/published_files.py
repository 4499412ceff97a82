"""MNIST (and sets of its form) and CIFAR as their authors publish them, and as torchvision leaves them behind.

FOLDER/train-images-idx3-ubyte[.gz]   FOLDER/MNIST/raw/...   FOLDER/cifar-10-batches-bin/data_batch_1.bin
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convnext.data.sources.finder import child
from convnext.data.sources.records import DataListing, ImageRecord, read_class_names
from convnext.errors import InputError

_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_MOST = 2**31
"""Bytes that a file may hold once unpacked."""


class PublishedPart(NamedTuple):
    """One part's images uint8 `[N, H, W]` or `[N, H, W, 3]`, and labels `[N]`."""

    images: np.ndarray
    labels: np.ndarray


def find_published(data: Path) -> Path | None:
    """The folder of a published set's files in a folder, or itself; None for data of another form."""
    inside = ("mnist", "fashionmnist", "kmnist", "qmnist", "cifar-10-batches-bin", "cifar-100-binary")
    pickles = ("cifar-10-batches-py", "cifar-100-python")
    for folder in (data, *(place for name in (*inside, *pickles) if (place := child(data, (name,))) is not None)):
        for place in (folder, folder / "raw"):
            if _idx(place, "train") or _cifar(place):
                return place
        if folder.name in pickles or (folder / "data_batch_1").is_file():
            raise InputError(
                f"{folder}: pickles, which can run code and are not read; CIFAR's binary version (*.bin) is"
            )
    return None


def read_published(folder: Path) -> DataListing:
    """The images that `find_published` found. `InputError` for files that are cut off, or of another form."""
    if files := _cifar(folder):
        hundred = "train" in files and files["train"][0].name == "train.bin"
        read = {part: _read_cifar(own, 2 if hundred else 1) for part, own in files.items()}
        names = child(folder, ("fine_label_names.txt", "batches.meta.txt"))
    else:
        read = {part: _read_idx(*own) for part in ("train", "test") if (own := _idx(folder, part))}
        names = child(folder, ("classes.txt",))
    if len({part.images.shape[1:] for part in read.values()}) > 1:
        raise InputError(f"{folder}: its parts have images of different sizes")
    highest = max(int(part.labels.max(initial=0)) for part in read.values())
    fashion = "fashionmnist" in (folder.name.lower(), folder.parent.name.lower())
    listed = read_class_names(names) if names is not None else _FASHION if fashion else ()
    classes = tuple(listed) if len(listed) > highest else tuple(str(label) for label in range(highest + 1))
    entries = [
        ImageRecord(f"{folder}/{part}/{number:05d}", (classes[label],), part, f"{part}/{number:05d}")
        for part, own in read.items()
        for number, label in enumerate(own.labels.tolist())
    ]
    return DataListing(entries, classes, np.concatenate([part.images for part in read.values()]))


def _idx(folder: Path, part: str) -> tuple[Path, Path] | None:
    """Images and labels of a part of MNIST's form."""
    start = "train" if part == "train" else "t10k"
    names = (f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte")
    found = [child(folder, (name, f"{name}.gz", name.replace("-idx", ".idx"))) for name in names]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _cifar(folder: Path) -> dict[str, list[Path]]:
    """Files of CIFAR's binary version by part; none where there is nothing to train on."""
    ten = [path for n in range(1, 6) if (path := folder / f"data_batch_{n}.bin").is_file()]
    train = ten or [path for path in (folder / "train.bin",) if path.is_file()]
    test = [path for name in ("test_batch.bin", "test.bin") if (path := folder / name).is_file()]
    known = child(folder, ("fine_label_names.txt", "batches.meta.txt")) is not None
    return {part: files for part, files in (("train", train), ("test", test)) if files} if train and known else {}


def _read_idx(images: Path, labels: Path) -> PublishedPart:
    pixels, numbers = _array(images, 3), _array(labels, 1)
    if len(pixels) != len(numbers) or not len(pixels):
        raise InputError(f"{images}: {len(pixels)} images, and {len(numbers)} labels in {labels.name}")
    return PublishedPart(pixels, numbers)


def _array(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file: two zeros, 8 for bytes, the number of dimensions, and the length of each."""
    content = _content(path)
    if len(content) < 4 + 4 * dimensions or content[:4] != bytes((0, 0, 8, dimensions)):
        raise InputError(f"{path}: not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions)
    if 0 in shape or values.size != np.prod([float(side) for side in shape]):
        raise InputError(f"{path}: {values.size} bytes, where its header says {'×'.join(map(str, shape))}")
    return values.reshape(shape)


def _read_cifar(files: Sequence[Path], labels: int) -> PublishedPart:
    """Rows of one label, or a coarse and a fine one, and 32 × 32 pixels: all red, all green, all blue."""
    rows = []
    for path in files:
        values = np.frombuffer(_content(path), dtype=np.uint8)
        if not values.size or values.size % (3072 + labels):
            raise InputError(f"{path}: {values.size} bytes are no whole number of CIFAR's images")
        rows.append(values.reshape(-1, 3072 + labels))
    every = np.concatenate(rows)
    return PublishedPart(every[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), every[:, labels - 1])


def _content(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(content) > _MOST:
        raise InputError(f"{path}: larger than {_MOST / 2**30:.0f} GiB")
    return content
