"""Labels move with the pixels; batches are the same on every run, in steps too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from annotating import as_yolo, make_truth
from making import make_scenes
from PIL import Image

from convnext.data.augment.window import Window, random_window
from convnext.data.images.whole_image import WholeImage
from convnext.data.map_loading import map_eval_loader, map_train_loader
from convnext.data.sources.label_maps import IGNORED, LabelRules, SegmentationSet
from convnext.data.sources.segmentation import read_label_maps
from convnext.tasks.segment import data as segment_data
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.data import TRIES, SegmentationTransform
from convnext.tasks.segment.read import examined, read_segmentation_data, rules_of

CROP = SegmentationTransform(48, 48, 200, (0.5, 2.0), most=0.75, hflip=0.5, photometric=False)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SegmentationSet:
    return read_label_maps(make_scenes(tmp_path_factory.mktemp("data") / "scenes"), LabelRules(9)).parts["train"]


def test_labels_lie_where_the_pixels_do() -> None:
    labels = np.zeros((60, 90), dtype=np.int16)
    labels[20:50, 10:40] = 1
    image = Image.fromarray(np.where(labels[..., None] == 1, 255, 0).astype(np.uint8).repeat(3, 2))
    for seed in range(40):
        torch.manual_seed(seed)
        pixels, crop = CROP(image, labels)
        assert pixels.shape == (3, 48, 48)
        assert crop.shape == (48, 48)
        real = crop != IGNORED
        assert ((pixels[0] > 127) ^ (crop == 1))[real].sum() <= 2 * 4 * 48 * 0.5
        assert (pixels[:, ~real] == torch.tensor([[124], [116], [104]])).all()


def test_colours_change_and_stay_what_they_are() -> None:
    """Leaves stay green: no red is taken for blue, as torchvision's `RandomPhotometricDistort` does."""
    image = Image.new("RGB", (60, 60), (60, 160, 100))
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        pixels, _ = replace(CROP, photometric=True)(image, np.zeros((60, 60), dtype=np.int16))
        red, green, blue = pixels[:, 0, 0].tolist()
        assert green > max(red, blue)
        seen.add((red, green, blue))
    assert len(seen) > 30


def test_no_class_has_most_of_a_crop_where_that_can_be() -> None:
    labels = np.zeros((200, 200), dtype=np.int16)
    labels[60:140, 60:140] = 1
    image = Image.new("RGB", (200, 200))
    transform = replace(CROP, short=200, scale=(1.0, 1.0))
    shares = {}
    for most in (0.75, 1.0):
        torch.manual_seed(0)
        crops = [replace(transform, most=most)(image, labels)[1] for _ in range(60)]
        shares[most] = sum(bool((crop == 0).float().mean() > 0.76) for crop in crops)
    assert shares[0.75] < 5 < shares[1.0]


def test_no_crop_is_drawn_again_where_a_class_may_have_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw(*image: int, **how: float) -> Window:
        drawn.append(image)
        return random_window(*image, **how)

    monkeypatch.setattr(segment_data, "random_window", draw)
    image, labels = Image.new("RGB", (60, 60)), np.zeros((60, 60), dtype=np.int16)
    replace(CROP, most=1.0)(image, labels)
    assert len(drawn) == 1
    replace(CROP, most=0.99)(image, labels)
    assert len(drawn) == 1 + TRIES


def test_batches_are_the_same_again_with_other_workers(scenes: SegmentationSet) -> None:
    def epoch(number: int, workers: int = 0, start: int = 0) -> list:
        loader = map_train_loader(scenes, CROP, batch_size=4, workers=workers, seed=0)
        loader.set_epoch(number, start)
        return list(loader)

    first, again, other = epoch(0), epoch(0, workers=2), epoch(1)
    assert len(first) == 2
    assert all(
        torch.equal(a.targets, b.targets) and torch.equal(a.on("cpu"), b.on("cpu"))
        for a, b in zip(first, again, strict=True)
    )
    assert not torch.equal(first[0].indices, other[0].indices)
    assert torch.equal(epoch(0, start=1)[0].targets, first[1].targets)
    assert sorted(torch.cat([b.indices for b in first]).tolist()) == list(range(8))


def test_an_epoch_of_steps_goes_on_where_the_last_ended(scenes: SegmentationSet) -> None:
    loader = map_train_loader(scenes, CROP, batch_size=4, workers=0, seed=0, steps=5)
    assert len(loader) == 5
    seen, maps = [], []
    for epoch in range(2):
        loader.set_epoch(epoch)
        for batch in loader:
            seen += batch.indices.tolist()
            maps += list(batch.targets)
    passes = [seen[i : i + 8] for i in range(0, 40, 8)]
    assert all(sorted(each) == list(range(8)) for each in passes)
    again = [maps[i] for i, index in enumerate(seen[:20]) if index == seen[0]]
    assert len(again) > 1
    assert not torch.equal(again[0], again[1])


def test_whole_images_come_in_order_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    folder = make_scenes(tmp_path / "scenes")
    (folder / "images" / "val" / "1.png").write_bytes(b"no image")
    val = read_label_maps(folder, LabelRules(9)).parts["val"]
    batches = list(map_eval_loader(val, WholeImage(48, 200), batch_size=2, workers=0))
    assert [batch.indices for batch in batches] == [[0], [2]]
    assert [index for batch in batches for index, _ in batch.unreadable] == [1]
    _, truth = val.open(2)
    assert np.array_equal(batches[1].maps[0], truth)
    assert min(batches[1].images[0].shape[1:]) == 48


def test_what_was_assumed_of_outlines_and_what_is_not_used_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An image without a label file is drawn as background, and no number of a map is there to say the class of."""
    as_yolo(tmp_path / "data", make_truth(tmp_path / "native", train=4, val=2), polygons=True)
    file = sorted((tmp_path / "data" / "labels" / "train").iterdir())[0]
    file.unlink()
    (tmp_path / "rules.json").write_text('{"1": null}')
    config = SegmentConfig(data=str(tmp_path / "data"), label_map=str(tmp_path / "rules.json"), ignore_index=0)
    examined(config, read_segmentation_data(config, rules_of(config)))
    assert "images without a label file, taken to show no object: 1 (" in caplog.text
    assert "not used: --label-map, which is of numbers in label maps; these are yolo" in caplog.text
