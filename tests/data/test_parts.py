"""Divisions and lists of images to leave out, of data whose parts are sets of files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from making import make_depths, make_objects, make_scenes

from convnext.data.division import Division
from convnext.data.exclude import ExcludeList
from convnext.data.measured import parts_to_read
from convnext.data.parts import divide_images, measured_images
from convnext.data.sources.detection import read_annotated
from convnext.data.sources.label_maps import LabelRules
from convnext.data.sources.segmentation import read_label_maps
from convnext.data.splits import HoldOut
from convnext.errors import InputError
from convnext.tasks.depth.config import DepthConfig
from convnext.tasks.depth.read import read_depth_data
from convnext.tasks.detect.config import DetectConfig
from convnext.tasks.detect.read import read_detection_data
from convnext.tasks.segment.config import SegmentConfig
from convnext.tasks.segment.read import read_segmentation_data, rules_of


def files(part: object) -> set[str]:
    return {"/".join(Path(source).parts[-2:]) for source in part.sources}


def test_maps_drawn_from_outlines_of_several_parts_are_measured_together(tmp_path: Path) -> None:
    """Those of the second part were not found."""
    data = make_objects(tmp_path / "data")
    read = read_label_maps(str(data), LabelRules())
    whole, name = measured_images(str(data), read.parts, "all", None)
    assert (name, len(whole)) == ("all", 9)
    picture, labels = whole.open(8)
    assert picture.size == (labels.shape[1], labels.shape[0])


def test_each_task_divides_its_own_parts_anew(tmp_path: Path) -> None:
    boxes, scenes, depths = (make(tmp_path / make.__name__) for make in (make_objects, make_scenes, make_depths))
    segment = SegmentConfig(data=str(scenes), ignore_index=9, stratify=True)
    seen: dict[str, list[set[str]]] = {"detect": [], "segment": [], "depth": []}
    for fold in ("1/2", "2/2"):
        detect = read_detection_data(DetectConfig(data=str(boxes), fold=fold, stratify=True))
        config = SegmentConfig(**{**segment.to_dict(), "fold": fold})
        found = {
            "detect": detect,
            "segment": read_segmentation_data(config, rules_of(config)),
            "depth": read_depth_data(DepthConfig(data=str(depths), fold=fold)),
        }
        for task, data in found.items():
            assert files(data.train).isdisjoint(files(data.val))
            seen[task].append(files(data.val))
    for task, count in {"detect": 9, "segment": 11, "depth": 11}.items():
        first, second = seen[task]
        assert first.isdisjoint(second)
        assert len(first | second) == count
        assert "train" in {name.split("/")[0] for name in first}  # which their own parts did not hold out


def test_what_was_divided_anew_is_found_again_elsewhere(tmp_path: Path) -> None:
    data = make_objects(tmp_path / "data")
    parts = read_annotated(str(data)).parts
    train, val, origin = divide_images(str(data), parts, HoldOut(), Division(fold="1/2"))
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved)
    assert parts_to_read("D", ("train", "val", "test"), None, origin) == ("train", "val")
    assert parts_to_read("D", ("train", "val", "test"), "test", origin) == ("test",)
    assert parts_to_read("D", ("train", "val"), None, None) == ("val",)
    again = read_annotated(str(moved)).parts
    assert files(measured_images(str(moved), again, None, origin)[0]) == files(val)
    assert files(measured_images(str(moved), again, "train", origin)[0]) == files(train)
    for path in moved.rglob("*.png"):  # other images of those names
        path.write_bytes(path.read_bytes() + b"x")
    part, name = measured_images(str(moved), again, None, origin)
    assert (name, len(part)) == ("val", 3)  # what the data themselves hold out


def test_a_list_leaves_images_out_of_both_sides_and_of_measuring(tmp_path: Path) -> None:
    data = make_objects(tmp_path / "data")
    parts = read_annotated(str(data)).parts
    exclude = ExcludeList(tmp_path / "list", ("train/0.png", "val/1.png"))
    train, val, origin = divide_images(str(data), parts, HoldOut(), exclude=exclude)
    assert (len(train), len(val), len(origin.left_out)) == (5, 2, 2)
    assert files(measured_images(str(data), parts, None, origin)[0]) == files(val)
    assert len(measured_images(str(data), parts, "all", origin)[0]) == 9
    assert len(measured_images(str(data), parts, "all", origin, exclude)[0]) == 7


def test_columns_stand_in_the_folder_in_images_or_in_its_parts(tmp_path: Path) -> None:
    data = make_depths(tmp_path / "data")
    names = sorted(path.relative_to(data / "images").as_posix() for path in (data / "images").rglob("*.png"))
    groups = {name: f"g{n % 4}" for n, name in enumerate(names)}

    def held() -> set[str]:
        found = read_depth_data(DepthConfig(data=str(data), group_by="scene", val_fraction=0.3))
        return {Path(source).relative_to(data / "images").as_posix() for source in found.val.sources}

    (data / "metadata.csv").write_text("path,scene\n" + "".join(f"images/{n},{g}\n" for n, g in groups.items()))
    first = held()
    assert {groups[name] for name in first}.isdisjoint({groups[name] for name in names if name not in first})
    (data / "metadata.csv").rename(data / "images" / "metadata.csv")
    (data / "images" / "metadata.csv").write_text("path,scene\n" + "".join(f"{n},{g}\n" for n, g in groups.items()))
    assert held() == first
    (data / "images" / "metadata.csv").unlink()
    for part in ("train", "val"):
        own = "".join(f"{n.split('/')[1]},{g}\n" for n, g in groups.items() if n.startswith(part))
        (data / "images" / part / "metadata.csv").write_text("file_name,scene\n" + own)
    assert held() == first
    with pytest.raises(InputError, match="no column site; there are scene"):
        read_depth_data(DepthConfig(data=str(data), group_by="site"))
    (data / "images" / "val" / "metadata.csv").unlink()
    with pytest.raises(InputError, match="--group-by scene: 3 images have none"):
        held()
