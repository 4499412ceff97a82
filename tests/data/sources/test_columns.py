"""Classification data as people have it: tables of every kind, tables that hold the images, and boxes as images."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from annotating import as_coco, as_labelme, as_yolo, make_truth
from making import COLOURS, make_folder
from PIL import ExifTags, Image
from pyarrow import parquet
from vacuous import nonempty

from convnext.data.image_set import ImageSet, read_images, read_split, read_train_val
from convnext.data.images.decode import read_image
from convnext.data.shards.pack import pack_shards
from convnext.data.shards.write import count_images
from convnext.data.sources.inputs import expand
from convnext.errors import ImageError, InputError

FEATURES = {"image": {"_type": "Image"}, "label": {"names": list(COLOURS), "_type": "ClassLabel"}}
IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "colours", train=4, val=2)


def contents(samples: ImageSet) -> list[tuple[str, bytes]]:
    return sorted((samples.classes[label], samples.content(n)) for n, label in enumerate(samples.targets))


def assert_same(data: Path, folder: Path) -> None:
    for ours, theirs in nonempty(zip(read_train_val(data)[:2], read_train_val(folder)[:2], strict=True)):
        assert ours.classes == theirs.classes
        assert contents(ours) == contents(theirs)
    assert len(read_images(data)) >= 12


def rows_of(folder: Path, part: str) -> list[tuple[Path, str]]:
    return [(path, path.parent.name) for path in sorted((folder / part).rglob("*.png"))]


def arrow_table(folder: Path, part: str, metadata: Any = FEATURES) -> pyarrow.Table:
    rows = rows_of(folder, part)
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path, _ in rows]
    labels = [list(COLOURS).index(label) for _, label in rows]
    table = pyarrow.table({"image": pyarrow.array(cells, IMAGE), "label": pyarrow.array(labels, pyarrow.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": metadata}})})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "\ufeffFile_Name;Category;split\r\n{};{};{}\r\n"),
        ("t.csv", "Path,Class,Split\r\n{},{},{}\r\n"),
        ("t.tsv", "filename\tLabel\tsplit\n{}\t{}\t{}\n"),
        ("t.jsonl", '{{"IMAGE": "{}", "label": "{}", "split": "{}"}}\n'),
        ("t.csv", "label,other,path,split\n{1},x y,{0},{2}\n"),
    ],
)
def test_tables_of_every_kind(name: str, text: str, folder: Path) -> None:
    header, row = text.splitlines(keepends=True) if "jsonl" not in name else ("", text)
    rows = [(path.relative_to(folder).as_posix(), label, part) for part in ("train", "val") for path, label in
            rows_of(folder, part)]  # fmt: skip
    (folder / name).write_text(header + "".join(row.format(*each) for each in rows), newline="")
    assert_same(folder / name, folder)
    (folder / name).unlink()


def test_paths_with_slashes_of_windows(folder: Path) -> None:
    rows = [(path, label) for path, label in rows_of(folder, "train")]
    lines = [f"{path.relative_to(folder).as_posix()},{label}".replace("/", "\\") for path, label in rows]
    (folder / "t.csv").write_text("path,label\n" + "\n".join(lines))
    data = read_split(folder / "t.csv", "all")
    assert [Path(source) for source in data.sources] == [path for path, _ in rows]
    assert [source for source, _ in expand([str(folder / "t.csv")])] == [str(path) for path, _ in rows]
    (folder / "t.csv").unlink()


@pytest.mark.parametrize("where", ["root", "parts"])
def test_metadata_beside_images(where: str, folder: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        lines = ["file_name,label,caption" + (",split" if where == "root" else "")]
        for number, (path, label) in enumerate(rows_of(folder, part)):
            (tmp_path / part / f"{number}.png").write_bytes(path.read_bytes())
            lines.append(f"{number}.png,{label},a b" if where == "parts" else f"{part}/{number}.png,{label},a b,{part}")
        if where == "parts":
            (tmp_path / part / "metadata.csv").write_text("\n".join(lines))
        else:
            with open(tmp_path / "metadata.csv", "a") as file:
                file.write("\n".join(lines if part == "train" else lines[1:]) + "\n")
    assert_same(tmp_path, folder)


@pytest.mark.parametrize("form", ["saved to disk", "parquet of the hub", "one parquet"])
def test_tables_that_hold_the_images(form: str, folder: Path, tmp_path: Path) -> None:
    for part, name in (("train", "train"), ("val", "validation")):
        table = arrow_table(folder, part)
        if form == "saved to disk":  # as `datasets` does
            (tmp_path / name).mkdir()
            (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
            (tmp_path / name / "state.json").write_text("{}")
            with pyarrow.ipc.new_stream(tmp_path / name / "data-00000-of-00001.arrow", table.schema) as file:
                file.write_table(table, max_chunksize=5)
        else:
            (tmp_path / "data").mkdir(exist_ok=True)
            parquet.write_table(table, tmp_path / "data" / f"{name}-00000-of-00001.parquet", row_group_size=5)
    if form != "one parquet":
        assert_same(tmp_path, folder)
        train, val, _ = read_train_val(tmp_path)
        assert train.part == "train"
        assert len({*train.shuffled(0)}) == len(train) == 12
        shards, failures = pack_shards(str(tmp_path), tmp_path / "shards", shard_bytes=10**6)
        assert not failures
        assert count_images(shards) == 18
        assert contents(read_split(tmp_path / "shards", "val")) == contents(val)
    else:
        one = tmp_path / "data" / "train-00000-of-00001.parquet"
        data = read_split(one, "all")
        assert contents(data) == contents(read_train_val(folder).train)
        named = list(expand([str(one)]))
        assert [name for name, _ in named] == data.sources
        assert [image.read() for _, image in named] == [data.content(i) for i in range(len(data))]


def test_threads_read_a_table_side_by_side(tmp_path: Path) -> None:
    """As packing does; before, it ended the process."""
    rng = np.random.default_rng(0)
    cells = [bytes([number]) * int(rng.integers(2_000, 60_000)) for number in range(200)]
    parquet.write_table(pyarrow.table({"image": cells}), tmp_path / "t.parquet", row_group_size=5)
    members = read_images(tmp_path / "t.parquet").members
    assert members is not None
    order = rng.integers(0, 200, 1_000).tolist()
    with ThreadPoolExecutor(8) as pool:
        for number, content in nonempty(zip(order, pool.map(members.read, order), strict=True)):
            assert content == cells[number]


def test_a_cell_without_an_image_is_unreadable(folder: Path, tmp_path: Path) -> None:
    table = arrow_table(folder, "train").to_pylist()
    table[0]["image"] = {"bytes": None, "path": "nowhere.png"}
    table[1]["image"] = None
    labels = pyarrow.array([row["label"] for row in table])
    cells = pyarrow.array([row["image"] for row in table], IMAGE)
    parquet.write_table(pyarrow.table({"image": cells, "label": labels}), tmp_path / "t.parquet")
    data = read_split(tmp_path / "t.parquet", "all")
    assert data.classes == ("0", "1", "2")
    for place in (0, 1):
        with pytest.raises(ImageError):
            data.open(place, "RGB")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-200])
    with pytest.raises(InputError, match="not a readable"):
        read_split(tmp_path / "t.parquet", "all")


@pytest.mark.parametrize("write", [as_coco, as_yolo, as_labelme])
def test_boxes_are_images_to_classify(write: Any, tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "native")
    write(tmp_path / "data", truth)
    train, val, _ = read_train_val(tmp_path / "data", form=write.__name__.removeprefix("as_"))
    assert set(train.classes) == {"square", "circle"}
    assert [len(part) for part in (train, val)] == [sum(len(i.annotations) for i in d.images) for d in truth.values()]
    squares = [n for n, label in enumerate(train.targets) if train.classes[label] == "square"]
    colour = np.array((220, 60, 40))
    for place in nonempty(squares[:3]):
        pixels = np.asarray(train.open(place, "RGB")).reshape(-1, 3)
        assert (pixels == colour).all(1).mean() > 0.8
    if write is as_yolo:
        again = read_train_val(tmp_path / "data" / "data.yaml").train
        assert contents(again) == contents(train)


@pytest.mark.parametrize("mode", ["CMYK", "F", "I", "I;16", "P", "LA", "1"])
def test_boxes_of_any_kind_of_image_are_read(tmp_path: Path, mode: str) -> None:
    """Some cannot be written as PNG, in which a part travels: the pixels are those of the whole image."""
    levels = np.full((20, 40), 0.25, dtype=np.float32)
    levels[:, :10] = 0.75
    grey = Image.fromarray((255 * levels).astype(np.uint8))
    wide = (65535 * levels).astype(np.int32)
    made = {"F": levels, "I": wide, "I;16": wide.astype(np.uint16)}
    image = (
        Image.fromarray(made[mode]) if mode in made else grey.convert("RGB" if mode == "CMYK" else "L").convert(mode)
    )
    assert image.mode == mode
    image.save(tmp_path / "a.tif")
    labels = [{"label": "dark", "points": [[10, 0], [40, 20]], "shape_type": "rectangle"}]
    labels.append({"label": "light", "points": [[0, 0], [10, 20]], "shape_type": "rectangle"})
    content = {"imagePath": "a.tif", "imageWidth": 40, "imageHeight": 20, "shapes": labels}
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_split(tmp_path, "all", form="labelme")
    whole = np.asarray(read_image(tmp_path / "a.tif", "RGB"))
    for place, columns in ((0, slice(10, 40)), (1, slice(0, 10))):
        assert np.array_equal(np.asarray(found.open(place, "RGB")), whole[:, columns])


def test_crops_of_one_image_are_held_out_together(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "native", train=12)
    as_labelme(tmp_path / "data", {"": truth["train"]})
    train, val, _ = read_train_val(tmp_path / "data", form="labelme")
    images = [{source.split("#")[0] for source in part.sources} for part in (train, val)]
    assert images[1]
    assert not images[0] & images[1]


def test_boxes_are_cut_from_the_pixels_that_they_are_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An image that lies on its side is taken as it is stored, one of another size not at all, and one that is missing
    is said."""
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (0, 0, 10, 20))
    lying = image.getexif()
    lying[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "lying.png", exif=lying)
    image.resize((80, 40)).save(tmp_path / "larger.png")
    names = ("lying.png", "larger.png", "missing.png")
    box = {"bbox": [0, 0, 10, 20]}
    content = {
        "images": [{"id": n, "file_name": name, "width": 40, "height": 20} for n, name in enumerate(names)],
        "categories": [{"id": 0, "name": "red"}, {"id": 1, "name": "black"}],
        "annotations": [{**box, "id": n, "image_id": n, "category_id": n % 2} for n in range(len(names))],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    data = read_split(tmp_path / "all.json", "all")
    places = {Path(source.split("#")[0]).name: place for place, source in enumerate(data.sources)}
    assert list(places) == ["lying.png", "larger.png"]
    assert data.open(places["lying.png"], "RGB").getcolors() == [(200, (255, 0, 0))]
    with pytest.raises(ImageError, match="80×40 pixels, where its annotations are for 40×20"):
        data.open(places["larger.png"], "RGB")
    said = f"left out images that are not in {tmp_path}: 1 (missing.png)"
    assert said in caplog.text
    caplog.clear()
    assert len(list(expand([str(tmp_path / "all.json")]))) == len(read_images(tmp_path / "all.json")) == 2
    assert caplog.text.count(said) == 2


def test_label_maps_are_no_images_to_pretrain_on(tmp_path: Path, folder: Path) -> None:
    rows = rows_of(folder, "train")
    for layout in ("images/{}.png masks/{}.png", "train/{}.png trainannot/{}.png", "{}.jpg {}_mask.png"):
        root = tmp_path / layout[:6].replace("/", "")
        for number, (path, _) in enumerate(rows):
            for target in layout.split():
                (root / target.format(number)).parent.mkdir(parents=True, exist_ok=True)
                (root / target.format(number)).write_bytes(path.read_bytes())
        assert len(read_images(root)) == len(rows)
        assert len(list(expand([str(root)]))) == len(rows)
        shards, _ = pack_shards(str(root), tmp_path / f"{root.name}-shards", shard_bytes=10**6, labels=False)
        assert count_images(shards) == len(rows)


def test_files_of_annotations_name_images_to_pretrain_on(tmp_path: Path) -> None:
    truth = make_truth(tmp_path / "native")
    as_yolo(tmp_path / "data", truth)
    images = sorted(str(path) for path in (tmp_path / "data" / "images").rglob("*.*"))
    assert sorted(read_images(tmp_path / "data" / "data.yaml").sources) == images
    assert sorted(name for name, _ in expand([str(tmp_path / "data" / "data.yaml")])) == images
