"""Indices and tables of strangers: nothing outside their folder is read or packed, and what is wrong is a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from making import fails, make_folder
from pyarrow import parquet

from convnext import cli
from convnext.data.shards import INDEX, PLACES, read_shards
from convnext.errors import InputError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    data, out = make_folder(tmp_path / "data", train=3, val=1), tmp_path / "shards"
    assert cli.main(["pack", str(data), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(
    "name", ["../../../../etc/passwd", "/etc/passwd", "..", "", "sub/a.tar", "a\0b", 7, None], ids=repr
)
def test_a_shard_lies_in_its_folder(shards: Path, name: Any) -> None:
    index = json.loads((shards / INDEX).read_text())
    index["shards"][0]["file"] = name
    (shards / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="the index cannot be read"):
        read_shards(shards)


@pytest.mark.parametrize(
    ("column", "value"),
    [("offset", -1), ("offset", 2**40), ("size", -1), ("size", 9_000_000_000), ("size", 2**62), ("shard", -1)],
)
def test_an_image_lies_in_its_shard(shards: Path, column: str, value: int) -> None:
    table = parquet.read_table(shards / PLACES)
    values = table.column(column).to_pylist()
    values[0] = value
    at = table.column_names.index(column)
    parquet.write_table(table.set_column(at, column, pyarrow.array(values, pyarrow.int64())), shards / PLACES)
    with pytest.raises(InputError):
        read_shards(shards)


@pytest.mark.parametrize("labels", [[-1], [3], [2**40]])
def test_a_label_is_a_class(shards: Path, labels: list[int]) -> None:
    """-1 was the last class, without a word."""
    table = parquet.read_table(shards / PLACES)
    values = table.column("labels").to_pylist()
    values[0] = labels
    at = table.column_names.index("labels")
    column = pyarrow.array(values, pyarrow.list_(pyarrow.int64()))
    parquet.write_table(table.set_column(at, "labels", column), shards / PLACES)
    with pytest.raises(InputError, match="labels that are no classes"):
        read_shards(shards)


@pytest.mark.parametrize("value", [None, "9", -1, 1.5])
def test_a_length_is_a_number(shards: Path, value: Any) -> None:
    index = json.loads((shards / INDEX).read_text())
    index["shards"][0]["bytes"] = value
    (shards / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError):
        read_shards(shards)


def test_what_is_no_image_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Any file that the user can read went into shards that are made to be handed on."""
    data = make_folder(tmp_path / "data", train=3, val=1)
    secret = tmp_path / "secret.txt"
    secret.write_text("password")
    rows = [f"{path},{path.parent.name}" for path in sorted((data / "train").rglob("*.png"))]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows, f"{secret},red", "/dev/zero,red"]))
    assert cli.main(["pack", str(tmp_path / "table.csv"), "--out", str(tmp_path / "shards")]) in (0, 1)
    said = capsys.readouterr()
    assert "secret.txt: not an image in a format that is read" in said.out + said.err
    assert "/dev/zero: not a regular file" in said.out + said.err
    assert b"password" not in b"".join(path.read_bytes() for path in (tmp_path / "shards").iterdir())
    (tmp_path / "all.csv").write_text(f"path,label\n{secret},red\n/dev/zero,blue\n")
    assert "can be" in fails(capsys, "pack", tmp_path / "all.csv", "--out", tmp_path / "none")
