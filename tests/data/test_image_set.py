"""Samples open their images, from files and from memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from making import make_folder, make_objects
from PIL import Image
from pyarrow import parquet

from convnext.data.image_set import ImageSet, read_images, read_split
from convnext.data.shards.pack import pack_shards
from convnext.errors import ImageError


def test_open_reads_files(tmp_path: Path):
    Image.new("RGB", (3, 2), (9, 9, 9)).save(tmp_path / "a.png")
    samples = ImageSet(("x", "y"), [1, 0], False, [str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    assert samples.open(0, "L").getpixel((0, 0)) == 9
    with pytest.raises(ImageError, match=r"b\.png: cannot be opened"):
        samples.open(1, "RGB")


def test_open_reads_memory():
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    samples = ImageSet(("x", "y"), [1, 0], False, ["m/0", "m/1"], images)
    assert samples.open(1, "RGB").getpixel((1, 1)) == (7, 7, 7)
    assert len(samples) == 2


@pytest.mark.parametrize("count", [1, 4, 6, 12, 99])
def test_of_classes_that_alternate_all_are_spread_over(count: int):
    samples = ImageSet(("x", "y", "z"), [0, 1, 2] * 4, False, [f"{place}.png" for place in range(12)])
    some = samples.spread(count)
    assert len(some) <= count
    assert set(some.targets) == ({0, 1, 2} if count > 2 else {0})
    numbers = [int(Path(source).stem) for source in some.sources]
    assert numbers == sorted(numbers)


def test_images_whose_classes_follow_each_other_are_evenly_spaced():
    samples = ImageSet(("x", "y"), [0] * 6 + [1] * 6, False, [f"{place}.png" for place in range(12)])
    assert samples.spread(4).sources == ["0.png", "3.png", "6.png", "9.png"]


def files(place: Path) -> ImageSet:
    return read_split(make_folder(place, train=2, val=1, size=8), "train")


def shards(place: Path) -> ImageSet:
    pack_shards(str(make_folder(place / "files", train=2, val=1, size=8)), place / "packed", shard_bytes=1000)
    return read_split(place / "packed", "train")


def columns(place: Path) -> ImageSet:
    contents = [path.read_bytes() for path in sorted(make_folder(place, train=2, val=1, size=8).rglob("*.png"))]
    rows = {"image": contents, "label": [str(number % 2) for number in range(len(contents))]}
    parquet.write_table(pyarrow.table(rows), place / "all.parquet", row_group_size=2)
    return read_split(place / "all.parquet", "all")


def boxes(place: Path) -> ImageSet:
    return read_split(make_objects(place), "train", form="coco")


def pages(place: Path) -> ImageSet:
    place.mkdir()
    first, *others = (Image.new("L", (4, 4), number) for number in range(6))
    first.save(place / "stack.tif", save_all=True, append_images=others)
    return read_images(place)


def memory(place: Path) -> ImageSet:
    return read_split("digits", "val").take(range(6))


@pytest.mark.parametrize("make", [files, shards, columns, boxes, pages, memory])
def test_joined_parts_are_the_whole(make: Callable[[Path], ImageSet], tmp_path: Path):
    whole = make(tmp_path / "data")
    joined = whole.take([4, 0]).joined([whole.take([1]), whole.take([3, 2])])
    order = [4, 0, 1, 3, 2]
    assert joined.sources == [whole.sources[place] for place in order]
    assert joined.targets == [whole.targets[place] for place in order]
    pictures = [whole.open(place, "L").tobytes() for place in order]
    assert [joined.open(place, "L").tobytes() for place in range(5)] == pictures
    assert len(set(pictures)) == 5
