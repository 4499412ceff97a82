"""Sets that other libraries write are read as what was written: `datasets` and `supervision`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import supervision
from annotating import Parts, objects_of
from making import COLOURS, make_folder
from vacuous import nonempty

from convnext.data.image_set import read_train_val
from convnext.data.sources.detection import read_annotated


@pytest.mark.parametrize("form", ["disk", "parquet"])
def test_what_datasets_writes(form: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "folder", train=3, val=2)
    names = sorted(COLOURS)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    parts: dict[str, Any] = {}
    for part, called in (("train", "train"), ("val", "validation")):
        files = sorted((folder / part).rglob("*.png"))
        rows = {"image": [str(file) for file in files], "label": [names.index(file.parent.name) for file in files]}
        parts[called] = datasets.Dataset.from_dict(rows, features=features)
    if form == "disk":
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "data"))
    else:
        (tmp_path / "data").mkdir()
        for called, part in parts.items():
            part.to_parquet(str(tmp_path / "data" / f"{called}-00000-of-00001.parquet"))
    found, native = read_train_val(tmp_path / "data"), read_train_val(folder)
    assert found.train.classes == native.train.classes
    for own, other in ((native.train, found.train), (native.val, found.val)):
        assert len(own) == len(other) > 0
        assert own.targets == other.targets
        for number in nonempty(range(len(own))):
            assert np.array_equal(np.asarray(own.open(number, "RGB")), np.asarray(other.open(number, "RGB")))


@pytest.mark.parametrize("form", ["yolo", "voc", "coco"])
def test_what_supervision_writes(form: str, truth: Parts, tmp_path: Path) -> None:
    data = truth["train"]
    annotations = {}
    for image in data.images:
        boxes = np.array([a.box for a in image.annotations], dtype=float).reshape(-1, 4)
        labels = np.array([a.label for a in image.annotations], dtype=int)
        annotations[str(image.file)] = supervision.Detections(xyxy=boxes, class_id=labels)
    folder = tmp_path / "images"
    written = supervision.DetectionDataset(list(data.classes), list(annotations), annotations)
    if form == "yolo":
        written.as_yolo(str(folder), str(tmp_path / "labels"), str(tmp_path / "data.yaml"))
    elif form == "voc":
        written.as_pascal_voc(str(folder), str(tmp_path / "Annotations"))
    else:
        written.as_coco(str(folder), str(tmp_path / "annotations.json"))
    found = read_annotated(tmp_path)
    (part,) = found.parts.values()
    read = {Path(image.key).name: image for image in part.images}
    assert set(read) >= {image.key for image in data.images if image.annotations}
    for image in data.images:
        if image.annotations:  # of others some of its writers leave nothing
            ours, others = objects_of(data, image), objects_of(part, read[image.key])
            assert [row[0] for row in ours] == [row[0] for row in others]
            for own, other in zip(ours, others, strict=True):
                assert other[2] == pytest.approx(own[2], abs=1.01)
