"""Photographs of ten classes in every form of classification data: the same images, labels and parts."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from convnext.data.image_set import read_train_val
from convnext.data.shards.pack import pack_shards

Photo = tuple[str, str, Path]
"""Part, class and file of an image."""


@pytest.fixture(scope="module")
def photos(real_images: Path) -> list[Photo]:
    found = []
    for part, count in (("train", 4), ("val", 2)):
        for folder in sorted((real_images / "imagenette" / part).iterdir()):
            found += [(part, folder.name, file) for file in sorted(folder.iterdir())[:count]]
    assert len(found) == 60
    return found


def as_folders(root: Path, photos: list[Photo]) -> None:
    for part, label, file in photos:
        place = root / {"train": "Training", "val": "valid"}[part] / label
        place.mkdir(parents=True, exist_ok=True)
        os.symlink(file, place / file.name)


def as_csv(root: Path, photos: list[Photo], *, separator: str = ",", name: str = "t.csv", end: str = "\n") -> None:
    root.mkdir()
    with open(root / name, "w", newline="", encoding="utf-8-sig") as file:
        rows = csv.writer(file, delimiter=separator, lineterminator=end)
        rows.writerow(["Filename", "Class", "Split"])
        rows.writerows([str(path), label, part] for part, label, path in photos)


def as_jsonl(root: Path, photos: list[Photo]) -> None:
    root.mkdir()
    rows = [{"file_name": os.path.relpath(path, root), "label": label, "split": part} for part, label, path in photos]
    (root / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))


def as_parquet(root: Path, photos: list[Photo]) -> None:
    root.mkdir()
    rows = [{"path": str(path), "category": label, "split": part} for part, label, path in photos]
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / "t.parquet")


def as_metadata(root: Path, photos: list[Photo]) -> None:
    for part in ("train", "val"):
        (root / part).mkdir(parents=True)
        lines = ["file_name,label"]
        for own, label, file in photos:
            if own == part:
                os.symlink(file, root / part / file.name)
                lines.append(f"{file.name},{label}")
        (root / part / "metadata.csv").write_text("\n".join(lines))


def as_datasets(root: Path, photos: list[Photo]) -> None:
    names = sorted({label for _, label, _ in photos})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    parts = {}
    for part in ("train", "val"):
        own = [(label, file) for each, label, file in photos if each == part]
        rows = {"image": [str(file) for _, file in own], "label": [names.index(label) for label, _ in own]}
        parts[part] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(parts).save_to_disk(str(root))


def as_images_in_parquet(root: Path, photos: list[Photo]) -> None:
    root.mkdir()
    for part in ("train", "val"):
        rows = [{"image": file.read_bytes(), "label": label} for own, label, file in photos if own == part]
        parquet.write_table(pyarrow.Table.from_pylist(rows), root / f"{part}.parquet", row_group_size=7)


def as_shards(root: Path, photos: list[Photo]) -> None:
    as_folders(root.with_name("to pack"), photos)
    pack_shards(str(root.with_name("to pack")), root, shard_bytes=10**6)


FORMS: dict[str, tuple[Callable[[Path, list[Photo]], None], str]] = {
    "folders": (as_folders, ""),
    "csv": (as_csv, "t.csv"),
    "semicolons": (lambda root, photos: as_csv(root, photos, separator=";", end="\r\n"), "t.csv"),
    "tsv": (lambda root, photos: as_csv(root, photos, separator="\t", name="t.tsv"), "t.tsv"),
    "jsonl": (as_jsonl, "t.jsonl"),
    "parquet": (as_parquet, "t.parquet"),
    "metadata.csv": (as_metadata, ""),
    "datasets": (as_datasets, ""),
    "images in parquet": (as_images_in_parquet, ""),
    "shards": (as_shards, ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_photographs_are_the_same(form: str, photos: list[Photo], tmp_path: Path) -> None:
    write, name = FORMS[form]
    write(tmp_path / "data", photos)
    read = read_train_val(tmp_path / "data" / name)
    for part, data in (("train", read.train), ("val", read.val)):
        truth = sorted((file.read_bytes(), label) for own, label, file in photos if own == part)
        found = sorted((data.content(n), data.classes[data.targets[n]]) for n in range(len(data)))
        assert [label for _, label in found] == [label for _, label in truth]
        assert found == truth
        assert np.asarray(data.open(0, "RGB")).shape == (224, 224, 3)
