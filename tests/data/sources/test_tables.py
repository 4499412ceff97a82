"""CSV, TSV and Parquet of path, label and split, and every way to get them wrong."""

import os
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from convnext.data.groups import column_of_tables
from convnext.data.image_set import read_images, read_split, read_train_val
from convnext.data.shards.pack import pack_shards
from convnext.data.sources.tables import rows_of_images
from convnext.errors import InputError


def write(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def refusal(data: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_train_val(data, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{data}: ")


SPLIT = "path,label,split\na.jpg,cat,train\nsub/b.jpg,dog,train\n/abs/c.jpg,cat,val\n"


def test_names_and_split(tmp_path: Path):
    train, val, _ = read_train_val(write(tmp_path, SPLIT))
    assert train.classes == val.classes == ("cat", "dog")
    assert train.sources == [f"{tmp_path}/a.jpg", f"{tmp_path}/sub/b.jpg"]
    assert train.targets == [0, 1]
    assert val.sources == ["/abs/c.jpg"]


@pytest.mark.parametrize("column", ["file", "filename", "image"])
def test_other_path_columns_tabs_blank_lines_and_byte_order_mark(tmp_path: Path, column: str):
    text = "\ufeff" + SPLIT.replace("path", column).replace(",", "\t").replace("\n", "\n\n")
    assert len(read_split(write(tmp_path, text, "t.TSV"), "all")) == 3


def test_quoted_fields(tmp_path: Path):
    table = write(tmp_path, 'path,label\n"a, b.jpg","c, d"\nx.jpg,e\ny.jpg,e\nz.jpg,"c, d"\n')
    assert read_split(table, "all").classes == ("c, d", "e")
    assert read_split(table, "all").sources[0] == f"{tmp_path}/a, b.jpg"


def test_held_out_by_hash_of_the_path_as_written(tmp_path: Path):
    rows = [f"{number}.jpg,{'ab'[number % 2]}" for number in range(200)]
    first = write(tmp_path, "\n".join(["path,label", *rows]))
    (tmp_path / "other").mkdir()
    second = write(tmp_path / "other", "\n".join(["path,label", *rows[::-1]]))
    held = [{Path(source).name for source in read_split(table, "val").sources} for table in (first, second)]
    assert held[0] == held[1]
    assert 20 < len(held[0]) < 60


def test_test_rows_stand_aside_when_there_is_val(tmp_path: Path):
    table = write(tmp_path, SPLIT + "d.jpg,dog,test\n")
    assert len(read_split(table, "val")) == 1
    assert [Path(source).name for source in read_split(table, "test").sources] == ["d.jpg"]
    assert len(read_split(table, "all")) == 4
    table = write(tmp_path, SPLIT.replace("val", "Test"))
    assert len(read_split(table, "val")) == 1


def test_integers_without_a_list_are_names(tmp_path: Path):
    """So labels from 1 on make no class 0 that has no image."""
    train, _, _ = read_train_val(write(tmp_path, "path,label,split\na,1,train\nb,10,train\nc,2,train\nd,1,val\n"))
    assert train.classes == ("1", "2", "10")
    assert train.targets == [0, 2, 1]


def test_integers_index_classes_txt(tmp_path: Path):
    write(tmp_path, "zebra\nant\n", "classes.txt")
    table = write(tmp_path, "path,label,split\na,0,train\nb,1,train\nc,0,val\n")
    train, val, _ = read_train_val(table)
    assert train.classes == ("zebra", "ant")
    assert val.targets == [0]
    assert read_split(table, "val", classes=["ant", "zebra"]).targets == [1]


def test_names_of_classes_txt_keep_its_order(tmp_path: Path):
    write(tmp_path, "dog\ncat\nfox\n", "classes.txt")
    train, _, _ = read_train_val(write(tmp_path, SPLIT))
    assert train.classes == ("dog", "cat", "fox")
    assert train.targets == [1, 0]


def test_integers_index_a_models_classes_unless_they_are_names(tmp_path: Path):
    table = write(tmp_path, "path,label,split\na,1,val\nb,2,val\n")
    assert read_split(table, "val", classes=["x", "y", "z"]).targets == [1, 2]
    assert read_split(table, "val", classes=["2", "1"]).targets == [1, 0]


def test_multi_label(tmp_path: Path):
    table = write(tmp_path, "path,labels,split\na,cat|dog,train\nb,dog ; fox;,train\nc,,train\nd,owl,val\n")
    train, val, _ = read_train_val(table, multi_label=True)
    assert train.classes == ("cat", "dog", "fox", "owl")
    assert train.targets == [(0, 1), (1, 2), ()]
    assert val.targets == [(3,)]
    assert train.multi_label


def test_single_labels_are_taken_verbatim(tmp_path: Path):
    assert read_split(write(tmp_path, "path,label\na,x;y\nb,z\nc,x;y\nd,z\n"), "all").classes == ("x;y", "z")


def test_parquet(tmp_path: Path):
    columns = {"extra": [b"1", b"2", b"3"], "path": ["a.jpg", "b.jpg", "c.jpg"], "split": ["train", "train", "val"]}
    parquet.write_table(pyarrow.table({**columns, "label": [0, 1, 1]}), tmp_path / "int.parquet")
    parquet.write_table(pyarrow.table({**columns, "label": [0.0, 1.0, 1.0]}), tmp_path / "float.parquet")
    parquet.write_table(pyarrow.table({**columns, "labels": [["x", "y"], [], ["y"]]}), tmp_path / "list.parquet")
    for name in ("int", "float"):
        train, val, _ = read_train_val(tmp_path / f"{name}.parquet")
        assert train.classes == ("0", "1")
        assert train.sources == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]
        assert val.targets == [1]
    train, val, _ = read_train_val(tmp_path / "list.parquet", multi_label=True)
    assert train.targets == [(0, 1), ()]
    assert val.targets == [(1,)]


def test_parquet_faults(tmp_path: Path):
    (tmp_path / "t.parquet").write_bytes(b"not parquet at all")
    assert refusal(tmp_path / "t.parquet").startswith("not a readable Parquet file (")
    rows = {"image": [{"size": 1}], "label": [1]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "hub.parquet")
    assert refusal(tmp_path / "hub.parquet") == "row 2: column 'image' holds dict, not a path"
    parquet.write_table(pyarrow.table({"path": [None], "label": [1]}), tmp_path / "none.parquet")
    assert refusal(tmp_path / "none.parquet") == "row 2: empty path"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path or file or filename or image or file_name; found nothing"),
        ("path,label\n", "no rows under the header"),
        ("name,label\na,b\n", "no column path or file or filename or image or file_name; found name, label"),
        ("path,kind\na,b\n", "no column label or labels or class or category; found path, kind"),
        ("path,label,path\na,b,c\n", "column 'path' appears twice in the header"),
        ("path,label\na,x\n,y\n", "row 3: empty path"),
        ("path,label\na,x\n\nb,\n", "row 4: no labels, expected one (or a multi-label task)"),
        ("path,labels\na,x|y\n", "row 2: 2 labels, expected one (or a multi-label task)"),
        ("path,label\na,x,y\n", "row 2: 3 fields under a header of 2"),
        (
            "path,label,split\na,x,train\nb,y,hold\n",
            "row 3: split 'hold' is none of train, training, val, valid, validation, dev, test, testing",
        ),
        ("path,label,split\na,x,train\nb,y,train\n", "no images in the val part"),
        ("path,label,split\na,x,train\nb,x,val\n", "only one class (x); classification needs at least two"),
    ],
)
def test_faults(tmp_path: Path, text: str, message: str):
    assert refusal(write(tmp_path, text)) == message


def test_a_class_in_val_that_train_lacks(tmp_path: Path):
    table = write(tmp_path, "path,label,split\na,x,train\nb,y,train\nc.jpg,z,val\n")
    assert refusal(table) == f"class z is in val and not in train ({tmp_path}/c.jpg)"


def test_labels_outside_classes_txt(tmp_path: Path):
    write(tmp_path, "x\ny\n", "classes.txt")
    assert refusal(write(tmp_path, "path,label\na,0\nb,2\n")) == "row 3: label 2 is outside 0..1"
    assert refusal(write(tmp_path, "path,label\na,x\nb,q\n")) == f"row 3: label 'q' is not in {tmp_path}/classes.txt"


def test_files_that_are_no_table(tmp_path: Path):
    assert (
        refusal(write(tmp_path, "hello", "t.txt"))
        == "neither a folder nor a table (.csv, .tsv, .parquet, .jsonl, .ndjson)"
    )
    (tmp_path / "t.csv").write_bytes(b"\xff\xd8\xff\xe0 a JPEG")
    assert refusal(tmp_path / "t.csv").startswith("not a table in UTF-8 text (")


def test_tables_made_by_strangers(tmp_path: Path):
    """Each is one line: nothing of a table is a traceback, and none fills the memory."""
    table = tmp_path / "t.csv"
    table.write_text("path,label\na\0b.png,x\nc.png,y\n")
    assert refusal(table) == "row 2: a path cannot hold the character NUL"
    (tmp_path / "classes.txt").write_text("x\ny\n")
    table.write_text("path,label\na.png," + "9" * 5000 + "\nc.png,1\n")
    assert "is not in" in refusal(table)
    (tmp_path / "classes.txt").unlink()
    os.mkfifo(tmp_path / "fifo.csv")
    assert "not a file" in refusal(tmp_path / "fifo.csv")
    same = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 10**6, pyarrow.int32()), pyarrow.array(["a"]))
    parquet.write_table(pyarrow.table({"path": same, "label": same}), tmp_path / "many.parquet")
    assert "1000000 rows" in refusal(tmp_path / "many.parquet")
    bad = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")]
    )
    parquet.write_table(pyarrow.table({"path": bad, "label": ["x"]}), tmp_path / "bytes.parquet")
    assert refusal(tmp_path / "bytes.parquet").startswith("not a readable Parquet file")
    late = pyarrow.array([2**62], pyarrow.timestamp("us"))
    parquet.write_table(pyarrow.table({"path": ["a.png"], "label": late}), tmp_path / "late.parquet")
    assert refusal(tmp_path / "late.parquet").startswith("not a readable Parquet file")


def test_columns_are_known_however_their_names_are_written(tmp_path: Path):
    (tmp_path / "t.csv").write_text("Path,LABEL,Split,Note\na.png,x,train,1\nc.png,y,train,3\nb.png,y,val,2\n")
    train, val, _ = read_train_val(tmp_path / "t.csv")
    assert (len(train), len(val)) == (2, 1)
    table = pyarrow.table({"Path": ["a.png", "b.png", "c.png"], "Label": [*"xyy"], "SPLIT": ["train", "val", "train"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert len(read_train_val(tmp_path / "t.parquet")[1]) == 1


def test_images_to_pre_train_on(tmp_path: Path):
    """Labels are not needed, and rows of other parts are left out."""
    (tmp_path / "t.csv").write_text("file\na.png\nsub/b.png\n")
    assert [Path(s).name for s in read_images(tmp_path / "t.csv").sources] == ["a.png", "b.png"]
    (tmp_path / "t.csv").write_text("path,label,split\na.png,x,train\nb.png,y,val\nc.png,,train\n")
    assert [Path(s).name for s in read_images(tmp_path / "t.csv").sources] == ["a.png", "c.png"]
    (tmp_path / "t.csv").write_text("path,split\na.png,train\nb.png,train\n")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    pack_shards(tmp_path / "t.csv", tmp_path / "packed", labels=False, shard_bytes=2**20)
    assert len(read_images(tmp_path / "packed")) == 2


@pytest.mark.parametrize("turn", [1, -1])
def test_an_image_has_its_own_row_whatever_others_are_called(tmp_path: Path, turn: int):
    """Of images with one name, one is left out; or one lies in the table's folder, and is not measured."""
    files = [tmp_path / part / f"{name}.jpg" for part in ("train", "val") for name in (1, 2)]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    for part in ("train", "val"):
        rows = [f"{name}.jpg,{part}{name}" for name in (1, 2)]
        write(tmp_path / part, "\n".join(["path,patient", *rows[::turn]]), "metadata.csv")
    own = [str(file) for file in files if file != tmp_path / "val" / "1.jpg"]
    assert column_of_tables(tmp_path, own, "patient") == ["train1", "train2", "val2"]
    table = write(tmp_path, "\n".join(["path,group", *["train/1.jpg,A", "1.jpg,B"][::turn]]))
    assert rows_of_images(table, own[:1], "elsewhere") == {0: {"group": "A"}}
