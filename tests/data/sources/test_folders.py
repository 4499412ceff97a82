"""A folder per class, in its three layouts, and every way to get it wrong."""

import os
import unicodedata
from pathlib import Path

import pytest

from convnext.data.image_set import ImageSet, read_all_parts, read_split, read_train_val
from convnext.data.splits import HoldOut
from convnext.errors import InputError


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def relative(samples: ImageSet, folder: Path) -> list[str]:
    return [Path(source).relative_to(folder).as_posix() for source in samples.sources]


def refusal(data: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_train_val(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_train_and_val(tmp_path: Path):
    fill(tmp_path, "train/cat/2.jpg", "train/cat/deep/1.PNG", "train/dog/1.jpg", "val/dog/3.jpg", "train/readme.txt")
    train, val, _ = read_train_val(tmp_path)
    assert train.classes == val.classes == ("cat", "dog")
    assert relative(train, tmp_path) == ["train/cat/2.jpg", "train/cat/deep/1.PNG", "train/dog/1.jpg"]
    assert train.targets == [0, 0, 1]
    assert relative(val, tmp_path) == ["val/dog/3.jpg"]
    assert val.targets == [1]
    assert not train.multi_label
    assert read_split(tmp_path, "val") == val
    assert len(read_split(str(tmp_path), "all")) == 4


@pytest.mark.parametrize("name", ["valid", "validation", "test"])
def test_other_names_of_the_held_out_folder(tmp_path: Path, name: str):
    fill(tmp_path, "train/a/1.jpg", "train/b/1.jpg", f"{name}/a/2.jpg")
    assert relative(read_split(tmp_path, "val"), tmp_path) == [f"{name}/a/2.jpg"]


def test_val_comes_before_test(tmp_path: Path):
    fill(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "test/a/3.jpg")
    assert relative(read_train_val(tmp_path).val, tmp_path) == ["val/a/2.jpg"]
    assert relative(read_split(tmp_path, "test", classes=["a", "b"]), tmp_path) == ["test/a/3.jpg"]
    assert len(read_split(tmp_path, "all", classes=["a", "b"])) == 4


@pytest.mark.parametrize(("first", "second"), [("Training", "Testing"), ("Train", "Test"), ("train", "dev")])
def test_parts_by_other_names_are_no_classes(tmp_path: Path, first: str, second: str):
    fill(tmp_path, f"{first}/a/1.jpg", f"{first}/b/1.jpg", f"{second}/a/2.jpg")
    train, val, origin = read_train_val(tmp_path)
    assert train.classes == ("a", "b")
    assert relative(val, tmp_path) == [f"{second}/a/2.jpg"]
    assert origin.hold_out is None


def test_a_class_may_be_called_train(tmp_path: Path):
    fill(tmp_path, *(f"{name}/{number}.jpg" for name in ("bus", "train") for number in range(9)))
    assert read_train_val(tmp_path).train.classes == ("bus", "train")


def test_a_folder_without_parts_is_all_of_it(tmp_path: Path):
    fill(tmp_path, *(f"{name}/{number}.jpg" for name in ("a", "b") for number in range(9)))
    assert len(read_split(tmp_path, classes=["a", "b"])) == 18
    assert read_split(tmp_path, classes=["a", "b"]).part == "all"


def test_numbered_classes_stand_in_numeric_order(tmp_path: Path):
    fill(tmp_path, *(f"train/{name}/1.jpg" for name in (10, 9, 1)), "val/9/2.jpg")
    train, val, _ = read_train_val(tmp_path)
    assert train.classes == ("1", "9", "10")
    assert val.targets == [1]


@pytest.mark.parametrize("root", ["", "train/"])
def test_a_part_is_held_out_where_none_is(tmp_path: Path, root: str):
    names = [f"{root}{name}/{number}.jpg" for name in ("cat", "dog") for number in range(100)]
    train, val, _ = read_train_val(fill(tmp_path / "here", *names))
    assert len(train) + len(val) == 200
    assert not set(train.sources) & set(val.sources)
    assert 20 < len(val) < 60
    assert set(val.targets) == {0, 1}
    elsewhere = fill(tmp_path / "there", *(name.removeprefix("train/") for name in names[::-1]))
    assert [name.removeprefix("train/") for name in relative(val, tmp_path / "here")] == relative(
        read_split(elsewhere, "val"), elsewhere
    )


def test_val_fraction(tmp_path: Path):
    fill(tmp_path, *(f"{name}/{number}.jpg" for name in ("a", "b") for number in range(50)))
    more, fewer = (read_train_val(tmp_path, hold_out=HoldOut(fraction)).val for fraction in (0.5, 0.1))
    assert len(more) > len(fewer)
    with pytest.raises(InputError, match=r"val_fraction must lie between 0 and 1, not 1.5"):
        HoldOut(1.5)


def test_a_models_classes_decide_the_targets(tmp_path: Path):
    fill(tmp_path, "val/dog/1.jpg", "val/cat/1.jpg")
    val = read_split(tmp_path, "val", classes=["wolf", "dog", "cat"])
    assert val.classes == ("wolf", "dog", "cat")
    assert val.targets == [2, 1]


def test_classes_the_model_lacks(tmp_path: Path):
    fill(tmp_path, *(f"val/{name}/1.jpg" for name in "abcdefgh"))
    with pytest.raises(InputError, match=r": the model has no class b, c, d, e, f and 2 more$"):
        read_split(tmp_path, "val", classes=["a"])


def test_missing(tmp_path: Path):
    assert refusal(tmp_path / "no") == f"{tmp_path}/no: no such folder or table"


def test_empty(tmp_path: Path):
    assert refusal(tmp_path).startswith(f"{tmp_path}: empty folder; expected a folder per class, as in DATA/train/cat")


def test_test_images_without_classes_are_left_alone(tmp_path: Path):
    fill(
        tmp_path,
        *(f"{part}/{name}/{i}.jpg" for part in ("train", "val") for name in "ab" for i in (1, 2)),
        "test/1.jpg",
    )
    assert len(read_train_val(tmp_path).val) == 4
    assert relative(read_split(tmp_path, classes=["a", "b"]), tmp_path / "val") == [
        "a/1.jpg",
        "a/2.jpg",
        "b/1.jpg",
        "b/2.jpg",
    ]
    assert [part.part for part in read_all_parts(tmp_path, hold_out=HoldOut())] == ["train", "val"]
    with pytest.raises(InputError, match="has no test part; it has train, val"):
        read_split(tmp_path, "test", classes=["a", "b"])


def test_test_images_without_classes_are_not_held_out(tmp_path: Path):
    fill(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg")
    assert refusal(tmp_path).startswith(f"{tmp_path}/test: images lie directly inside")


def test_images_directly_inside(tmp_path: Path):
    fill(tmp_path, "1.jpg", "2.jpg")
    assert refusal(tmp_path).startswith(f"{tmp_path}: images lie directly inside; expected a folder per class")


def test_no_class_folders(tmp_path: Path):
    fill(tmp_path, "notes.txt", ".hidden/1.jpg")
    assert refusal(tmp_path).startswith(f"{tmp_path}: no class folders inside; expected a folder per class")


def test_no_images_at_all(tmp_path: Path):
    fill(tmp_path, "a/notes.txt", "b/notes.txt")
    assert refusal(tmp_path) == f"{tmp_path}: no images in its folders a, b"


@pytest.mark.parametrize("val", ["val/a/1.jpg", "a/2.jpg"])
def test_classes_without_training_images(tmp_path: Path, val: str):
    root = "train/" if val.startswith("val") else ""
    fill(tmp_path, f"{root}a/1.jpg", f"{root}d/1.jpg", f"{root}b/notes.txt", f"{root}c/notes.txt", val)
    assert refusal(tmp_path) == f"{tmp_path}: classes without any image to train on: b, c"
    assert read_split(tmp_path, "val", classes=["a", "d"]).targets == [0]


def test_a_class_in_val_that_train_lacks(tmp_path: Path):
    fill(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/zebra/1.jpg")
    assert refusal(tmp_path) == f"{tmp_path}/val: classes that {tmp_path}/train lacks: zebra"


def test_one_class(tmp_path: Path):
    fill(tmp_path, "cat/1.jpg", "cat/2.jpg")
    assert refusal(tmp_path) == f"{tmp_path}: only one class (cat); classification needs at least two"


def test_val_without_train(tmp_path: Path):
    fill(tmp_path, "val/a/1.jpg", "val/b/1.jpg")
    assert refusal(tmp_path) == f"{tmp_path}: there is val/ but no train/ beside it"


def test_nothing_held_out(tmp_path: Path):
    fill(tmp_path, "a/1.jpg", "b/1.jpg")
    assert refusal(tmp_path) == f"{tmp_path}: no images in the val part"


def test_what_operating_systems_leave_is_no_class(tmp_path: Path):
    fill(
        tmp_path,
        "train/a/1.jpg",
        "train/b/1.jpg",
        "train/a/@eaDir/1.jpg",
        "train/@eaDir/1.jpg",
        "__MACOSX/train/x/1.jpg",
    )
    fill(tmp_path, "val/a/1.jpg", "val/__MACOSX/1.jpg")
    train, val, _ = read_train_val(tmp_path)
    assert (train.classes, len(train), len(val)) == (("a", "b"), 2, 1)


def test_names_of_one_class_on_two_systems(tmp_path: Path):
    """A Mac writes "é" as "e" and an accent."""
    composed, decomposed = "Café", unicodedata.normalize("NFD", "Café")
    fill(tmp_path, f"train/{composed}/1.jpg", "train/b/1.jpg", f"val/{decomposed}/1.jpg")
    train, val, _ = read_train_val(tmp_path)
    assert train.classes == ("Café", "b")
    assert val.targets == [0]


def test_data_that_lie_one_folder_deeper(tmp_path: Path):
    fill(tmp_path, "wrapped/train/a/1.jpg", "wrapped/train/b/1.jpg", "wrapped/val/a/1.jpg")
    assert refusal(tmp_path).endswith(f"is {tmp_path}/wrapped the data?")


@pytest.mark.skipif("CONVNEXT_DATA" not in os.environ, reason="CONVNEXT_DATA names no folder of real images")
def test_imagenette():
    train, val, _ = read_train_val(Path(os.environ["CONVNEXT_DATA"]) / "imagenette")
    assert (len(train), len(val), len(train.classes)) == (3000, 1000, 10)
    assert [val.targets.count(index) for index in range(10)] == [100] * 10
    assert train.open(0, "RGB").size == (224, 224)
