"""MNIST and CIFAR as published: the same pixels and labels as torchvision reads, and no pickle."""

from __future__ import annotations

import gzip
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from making import fails
from PIL import Image
from torchvision.datasets import MNIST
from vacuous import nonempty

from convnext.data.image_set import read_images, read_split, read_train_val
from convnext.errors import InputError


def write_mnist(folder: Path, *, packed: bool = False) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for start, count in (("train", 30), ("t10k", 20)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, values in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
            path = folder / f"{start}-{name}-ubyte"
            path.write_bytes(head + values.tobytes())
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_as_torchvision_reads_it(packed: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", packed=packed)
    data = read_train_val(tmp_path)
    assert (len(data.train), len(data.val)) == (30, 20)
    assert data.train.classes == tuple("0123456789")
    if not packed:
        theirs = MNIST(str(tmp_path), train=True)
        for number in nonempty(range(len(theirs))):
            picture, label = theirs[number]
            assert data.train.targets[number] == label
            assert np.array_equal(np.asarray(data.train.open(number, "L")), np.asarray(picture))
    assert len(read_images(tmp_path)) == 30


def test_cifar_is_red_then_green_then_blue(tmp_path: Path) -> None:
    (tmp_path / "batches.meta.txt").write_text("plane\ncar\n")
    row = bytes([1]) + bytes(range(256)) * 4 + bytes([7]) * 1024 + bytes([9]) * 1024
    (tmp_path / "data_batch_1.bin").write_bytes(row + bytes(3073))
    (tmp_path / "test_batch.bin").write_bytes(row + bytes(3073))
    data = read_split(tmp_path, "train")
    assert (data.classes, data.targets) == (("plane", "car"), [1, 0])
    picture = data.open(0, "RGB")
    assert isinstance(picture, Image.Image)
    assert picture.getpixel((5, 1)) == (37, 7, 9)
    assert len(read_split(tmp_path, "test")) == 2


def test_of_cifar_100_fine_labels_count(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("a\nb\nc\n")
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(b"".join(bytes([0, fine]) + bytes(3072) for fine in (2, 0, 1)))
    assert read_split(tmp_path, "train").targets == [2, 0, 1]


def test_pickles_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"labels": [0]}))
    said = fails(capsys, "train", "classify", tmp_path, "--check")
    assert "pickles, which can run code and are not read" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train-images-idx3-ubyte", b"", "not an IDX file"),
        ("train-images-idx3-ubyte", bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 28, 28), "where its header says"),
        ("train-labels-idx1-ubyte", bytes((0, 0, 8, 1)) + struct.pack(">I", 2) + b"ab", "30 images, and 2 labels"),
    ],
)
def test_damaged_files_are_a_line(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw")
    (tmp_path / "raw" / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_split(tmp_path / "raw", "train")
    shutil.rmtree(tmp_path / "raw")
    write_mnist(tmp_path / "raw", packed=True)
    path = tmp_path / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="cannot be read"):
        read_split(tmp_path / "raw", "train")
