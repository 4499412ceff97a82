"""Files of all kinds, damaged or made up: each is read, or is an `InputError`; nothing else, and memory stays bounded.

50 examples of each; `make fuzz` takes 1,000, and prints the counts.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import changed, damaged, damages, ends_well, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from making import FAST, change_column, make_folder, make_objects, make_scenes
from PIL import Image
from safetensors.torch import save_file
from sitecustomize import BYTE

import convnext
from convnext import cli
from convnext.data.image_set import read_train_val
from convnext.data.images.decode import read_image
from convnext.data.shards.pack import pack_shards
from convnext.data.shards.pack_maps import pack_maps
from convnext.data.shards.pack_objects import pack_objects
from convnext.data.sources.label_maps import read_map
from convnext.models.classifier import create_model
from convnext.runs.directory import Run
from convnext.runs.resume import resumed_config
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.task import Classification
from convnext.train.check import check
from convnext.train.trainer import Trainer
from convnext.weights.files import META_KEY

MOST = 2 * 2**30
"""Bytes that the process may grow by over all examples of a test."""

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")  # one of long made-up names


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MOST


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    data = str(make_folder(folder / "data"))
    assert cli.main(["train", "classify", data, "--out", str(folder / "run"), *FAST, "--epochs", "1"]) == 0
    return folder / "run"


def use_run(folder: Path, source: Path) -> None:
    Run(folder).rows()
    config = resumed_config(ClassifyConfig, str(source), folder, {})
    Trainer(Classification(config, *read_train_val(config.data)), Run.reopen(folder), resume=True)
    convnext.load(folder)


def use_weights(weights: dict, meta: Any, path: Path) -> None:
    save_file(weights, path, {META_KEY: json.dumps(meta)})
    convnext.load(path)(Image.new("RGB", (40, 40)))


def use_shards(folder: Path) -> None:
    train, val, _ = read_train_val(str(folder))
    for samples in (train, val):
        for number in range(min(3, len(samples))):
            samples.open(number, "RGB")


def use_packed(folder: Path, task: str) -> None:
    check(folder, task=task, workers=0, **({"ignore_index": 9} if task == "segment" else {}))


def test_what_will_be_damaged_is_read(
    run: Path, weights: dict, objects: Path, shards: Path, packed: dict[str, Path], tmp_path: Path
) -> None:
    """Else damage would only be refused for what was wrong before."""
    whole = shutil.copytree(run, tmp_path / "run")
    use_run(whole, run.parent / "data")
    use_weights(weights, META, tmp_path / "meta.safetensors")
    check(objects, task="detect", workers=0)
    (tmp_path / "table.csv").write_text(TABLE)
    read_train_val(tmp_path / "table.csv")
    use_shards(shards)
    for task, folder in packed.items():
        use_packed(folder, task)
    for content in image_files().values():
        read_image(io.BytesIO(content), "RGB")


@fuzzed
@given(st.data())
def test_run_directories(run: Path, data: st.DataObject) -> None:
    """Config, logs, weights and checkpoints, each damaged or changed."""
    copied = run.parent / "copy"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(run, copied)
    files = sorted(path for path in copied.rglob("*") if path.suffix in (".json", ".jsonl", ".safetensors"))
    file = data.draw(st.sampled_from(files))
    if file.suffix == ".json" and data.draw(st.booleans()):
        file.write_text(json.dumps(data.draw(changed(json.loads(file.read_text())))))
    else:
        file.write_bytes(damaged(file.read_bytes(), data.draw(damages)))
    ends_well(lambda: use_run(copied, run.parent / "data"))


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return create_model(BYTE, num_classes=3).state_dict()


TABLE = "path,label,split\na.png,x,train\nb.png,y,val\nc.png,y,train\n"
META = {
    "task": "classify",
    "classes": ["a", "b", "c"],
    "descriptions": {"a": "an a"},
    "multi_label": False,
    "preprocessing": {
        "image_size": 32,
        "crop": 1.0,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "in_chans": 3,
        "white": 65535,
    },
    "origin": {"rule": 2, "fraction": 0.2},
}


@fuzzed
@given(meta=changed(META))
def test_metadata_of_weights(weights: dict, meta: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "meta.safetensors"
    ends_well(lambda: use_weights(weights, meta, path))


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_objects(tmp_path_factory.mktemp("objects") / "data", train=3, val=2)


@fuzzed
@given(data=st.data())
def test_coco_files(objects: Path, data: st.DataObject) -> None:
    path = next(path for path in sorted(objects.rglob("*.json")) if "train" in str(path))
    original = path.read_bytes()
    try:
        if data.draw(st.integers(0, 3)):
            path.write_text(json.dumps(data.draw(changed(json.loads(original)))))
        else:
            path.write_bytes(damaged(original, data.draw(damages)))
        ends_well(lambda: check(objects, task="detect", workers=0))
    finally:
        path.write_bytes(original)


@fuzzed
@given(
    mode=st.sampled_from(["L", "P", "RGB", "1", "I;16", "I", "F", "RGBA", "LA", "CMYK"]),
    seed=st.integers(0, 2**32 - 1),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    data=st.data(),
)
def test_label_maps(
    mode: str, seed: int, sides: tuple, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = np.random.default_rng(seed)
    levels = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode, np.uint8)
    channels = {"RGB": (3,), "RGBA": (4,), "LA": (2,), "CMYK": (4,)}.get(mode, ())
    pixels = random.integers(0, 255, (*sides, *channels)).astype(levels)
    image = Image.fromarray(pixels > 127) if mode == "1" else Image.fromarray(pixels)
    image = image.convert("P") if mode == "P" else image
    file = io.BytesIO()
    image.save(file, format="TIFF")
    content = damaged(file.getvalue(), data.draw(damages)) if data.draw(st.booleans()) else file.getvalue()
    path = tmp_path_factory.getbasetemp() / "map.tif"
    path.write_bytes(content)
    ends_well(lambda: read_map(path))


@fuzzed
@given(data=st.data())
def test_tables(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "table.csv"
    if data.draw(st.booleans()):
        path.write_bytes(damaged(TABLE.encode(), data.draw(damages)))
    else:
        cell = st.text(max_size=12) | st.sampled_from(["", "a\0b", "9" * 5000, "=1", "é", "\ufeff", "/etc/passwd"])
        rows = data.draw(st.lists(st.lists(cell, min_size=1, max_size=4), max_size=5))
        lines = "\n".join(",".join(row) for row in rows)
        path.write_bytes(f"path,label\n{lines}\n".encode("utf-8", errors="surrogatepass"))
    ends_well(lambda: read_train_val(path))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    pack_shards(str(make_folder(folder / "data", train=3, val=1)), folder / "shards", shard_bytes=10**6)
    return folder / "shards"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards of images with objects and with label maps, by the task."""
    folder = tmp_path_factory.mktemp("packed")
    pack_objects(str(make_objects(folder / "objects", train=3, val=2)), folder / "detect", shard_bytes=10**6)
    pack_maps(str(make_scenes(folder / "scenes", train=3, val=2)), folder / "segment", shard_bytes=10**6)
    return {task: folder / task for task in ("detect", "segment")}


def use_damaged(folder: Path, data: st.DataObject, use: Callable[[], object]) -> None:
    """Use shards while one of the two files of their index is damaged."""
    path = data.draw(st.sampled_from(sorted(path for path in folder.iterdir() if path.suffix != ".tar")))
    original = path.read_bytes()

    try:
        if path.suffix == ".json" and data.draw(st.booleans()):
            path.write_text(json.dumps(data.draw(changed(json.loads(original)))))
        else:
            path.write_bytes(damaged(original, data.draw(damages)))
        ends_well(use)
    finally:
        path.write_bytes(original)


@fuzzed
@given(data=st.data())
def test_indices_of_shards(shards: Path, data: st.DataObject) -> None:
    use_damaged(shards, data, lambda: use_shards(shards))


@fuzzed
@given(data=st.data(), task=st.sampled_from(["detect", "segment"]))
def test_indices_of_packed_objects_and_maps(packed: dict[str, Path], data: st.DataObject, task: str) -> None:
    use_damaged(packed[task], data, lambda: use_packed(packed[task], task))


@fuzzed
@given(data=st.data())
def test_objects_in_an_index(packed: dict[str, Path], data: st.DataObject) -> None:
    """A document of the index's table is another."""
    path = packed["detect"] / "shards.parquet"
    original = path.read_bytes()
    try:
        change_column(path.parent, "objects", lambda said: json.dumps(data.draw(changed(json.loads(said)))))
        ends_well(lambda: use_packed(path.parent, "detect"))
    finally:
        path.write_bytes(original)


def image_files() -> dict[str, bytes]:
    """Small images of every format, by name."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 31, 3), np.uint8)
    files = {}
    for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format=name)
        files[name] = file.getvalue()
    real = Path(os.environ.get("CONVNEXT_DATA", ".")) / "imagenette"
    for path in sorted(real.rglob("*.JPEG"))[:3] if real.is_dir() else []:
        files[path.name] = path.read_bytes()
    return files


@fuzzed
@given(data=st.data(), mode=st.sampled_from(["RGB", "L"]))
def test_images(data: st.DataObject, mode: str) -> None:
    files = image_files()
    content = damaged(files[data.draw(st.sampled_from(sorted(files)))], data.draw(damages))
    ends_well(lambda: read_image(io.BytesIO(content), mode))
