"""Indices and tables of strangers: nothing outside their folder is read or packed, and what is wrong is a line."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from making import FAST, fails, make_folder
from PIL import Image
from pyarrow import parquet

from convnext import cli
from convnext.data.image_set import read_split
from convnext.data.shards import read as module
from convnext.data.shards.read import INDEX, PLACES, read_shards
from convnext.data.shards.read import _opened as opened
from convnext.errors import ImageError, InputError
from convnext.storage import cache


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


def fetched(address: str) -> bytes:
    """The bytes of the first image of shards behind an address."""
    opened.cache_clear()
    return read_split(address, "train").members.read(0)


@pytest.fixture
def mirrors(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Addresses of the shards, and of a mirror with the same index and other bytes."""
    evil = tmp_path / "evil"
    shutil.copytree(shards, evil)
    for path in evil.glob("*.tar"):
        path.write_bytes(b"\xee" * path.stat().st_size)
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "PAUSES", (0,))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/shards", f"http://127.0.0.1:{http.server_port}/evil"
        http.shutdown()


def test_a_mirror_with_other_bytes_is_found_out(mirrors: tuple[str, str], tmp_path: Path) -> None:
    official, evil = mirrors
    with pytest.raises(InputError, match="its SHA-256 differs"):
        fetched(evil)
    assert not list((tmp_path / "cache").rglob("*.tar"))
    assert b"\xee" * 16 not in fetched(official)


def test_a_mirror_with_other_labels_is_found_out(mirrors: tuple[str, str], shards: Path, tmp_path: Path) -> None:
    official, evil = mirrors
    relabel(tmp_path / "evil")
    with pytest.raises(InputError, match="its SHA-256 differs"):
        read_shards(evil)
    assert labels(official) == labels(shards)


def relabel(folder: Path) -> None:
    """Give all images of some shards the first class."""
    table = parquet.read_table(folder / PLACES)
    column = pyarrow.array([[0]] * len(table), pyarrow.list_(pyarrow.int32()))
    parquet.write_table(table.set_column(table.column_names.index("labels"), "labels", column), folder / PLACES)


def labels(data: str | Path) -> list[tuple[str, ...]]:
    return [entry.labels for entry in read_shards(data).entries]


def forget_hashes(folder: Path, *, hashed: int = 0, parquet_too: bool = True) -> None:
    """Leave those of the first files alone, as shards of before have none."""
    index = json.loads((folder / INDEX).read_text())
    index["classes"][-1] = "sha256"  # a class may be called so
    for file in index["shards"][hashed:]:
        del file["sha256"]
    if parquet_too:
        del index["parquet_sha256"]
    (folder / INDEX).write_text(json.dumps(index))


def test_without_hashes_an_address_does_not_poison_another(mirrors: tuple[str, str], tmp_path: Path) -> None:
    for place in ("shards", "evil"):
        forget_hashes(tmp_path / place)
    official, evil = mirrors
    assert b"\xee" * 16 in fetched(evil)
    assert b"\xee" * 16 not in fetched(official)


@pytest.mark.parametrize(("hashed", "parquet_too"), [(0, True), (1, True), (1, False), (2, True)])
def test_nor_does_it_where_some_have_hashes(
    hashed: int, parquet_too: bool, mirrors: tuple[str, str], shards: Path, tmp_path: Path
) -> None:
    for place in ("shards", "evil"):
        forget_hashes(tmp_path / place, hashed=hashed, parquet_too=parquet_too)
    relabel(tmp_path / "evil")
    official, evil = mirrors
    assert labels(evil) != labels(official)
    assert labels(official) == labels(shards)


def refuse(*arguments: Any, **options: Any) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_cache_that_cannot_be_written_is_read(
    mirrors: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user filled it. As root, whom no mode keeps out, what fails is played."""
    expected = fetched(mirrors[0])

    monkeypatch.setattr(cache, "FileLock", refuse)
    monkeypatch.setattr(cache.os, "access", lambda *_: False)
    opened.cache_clear()
    kept = next((tmp_path / "cache").rglob("*.tar"))
    assert fetched(mirrors[0]) == expected
    number = cache.open_fetched(f"{mirrors[0]}/{kept.name}", kept, kept.stat().st_size, None)
    os.close(number)
    with pytest.raises(InputError, match="Permission denied"):
        cache.open_fetched(f"{mirrors[0]}/{kept.name}", kept, 7, None)


def test_a_lock_of_another_user_keeps_nobody_from_reading(
    mirrors: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that several write to."""
    expected = fetched(mirrors[0])

    monkeypatch.setattr(cache, "FileLock", refuse)
    monkeypatch.setattr(cache.os, "utime", refuse)
    assert fetched(mirrors[0]) == expected
    next((tmp_path / "cache").rglob("*.tar")).unlink()
    with pytest.raises(InputError, match="Permission denied"):
        fetched(mirrors[0])


def read_as_nobody(path: Path) -> None:
    os.setuid(65534)
    number = cache.open_fetched("http://127.0.0.1:9/a.tar", path, 7, None)
    assert os.read(number, 9) == b"content"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(("mode", "locked"), [(0o755, False), (0o755, True), (0o1777, True)])
def test_another_user_reads_a_cache(mode: int, locked: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:  # nobody else may look into pytest's own
        path = Path(folder, "a.tar")
        path.write_bytes(b"content")
        if locked:
            path.with_name(".a.tar.lock").touch(0o644)
        os.chmod(folder, mode)
        process = multiprocessing.get_context("fork").Process(target=read_as_nobody, args=(path,))
        process.start()
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("pressed", ["--format=gnu", "--format=posix"])
def test_sparse_images_are_left_out(pressed: str, tmp_path: Path) -> None:
    """Their bytes in the tar are fewer than their size, and others follow."""
    folder, loose = tmp_path / "tars", tmp_path / "loose"
    folder.mkdir()
    loose.mkdir()
    Image.new("RGB", (8, 8)).save(loose / "2.png")
    shutil.copy(loose / "2.png", loose / "1.png")
    os.truncate(loose / "1.png", 1 << 20)
    command = ["tar", "--sparse", pressed, "-C", str(loose), "-cf", str(folder / "train.tar"), "1.png", "2.png"]
    subprocess.run(command, check=True)
    assert (folder / "train.tar").stat().st_size < 1 << 20
    assert cli.main(["index", str(folder)]) == 0
    assert [entry.key for entry in read_shards(folder).entries] == ["2.png"]


def test_a_sparse_class_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """8 GB in 512 bytes were a MemoryError."""
    folder = tmp_path / "tars"
    folder.mkdir()
    (tmp_path / "1.cls").touch()
    os.truncate(tmp_path / "1.cls", 1 << 33)
    subprocess.run(["tar", "-S", "-C", str(tmp_path), "-cf", str(folder / "train.tar"), "1.cls"], check=True)
    assert "too many for a class" in fails(capsys, "index", folder)


def test_a_password_in_an_address_is_not_said(
    mirrors: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = mirrors[0].replace("//", "//ann:secret@")
    listing = read_shards(data)
    assert not any("secret" in entry.source for entry in listing.entries)
    listing.members.read(0)
    assert cli.main(["train", "classify", data, "--out", str(tmp_path / "run"), *FAST, "--epochs", "1"]) == 0
    said = capsys.readouterr()
    assert mirrors[0] in said.out  # in the commands that may come next
    assert "secret" not in said.out + said.err
    for path in (tmp_path / "cache").rglob("*.tar"):
        os.truncate(path, 0)
    with pytest.raises(ImageError, match="ends after") as caught:
        listing.members.read(0)
    assert "secret" not in str(caught.value)
    (tmp_path / "shards" / INDEX).write_text("{")
    assert "secret" not in fails(capsys, "train", "classify", data, "--out", tmp_path / "other")
    assert "secret" not in fails(capsys, "train", "classify", f"{data}/none", "--out", tmp_path / "other")
    assert "secret" not in fails(capsys, "pack", data, "--out", tmp_path / "new")


@pytest.mark.parametrize("data", ["http://[::1", "http://", "http://a b/c", "https://[::1/x"])
def test_data_that_is_no_address_is_a_line(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "PAUSES", ())
    assert "cannot download" in fails(capsys, "train", "classify", data, "--out", tmp_path / "run")


def test_an_index_has_some_megabytes_at_most(mirrors: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MOST_INDEX", "MOST_PLACES"):
        with monkeypatch.context() as patch:
            patch.setattr(module, limit, 100)
            with pytest.raises(InputError, match="more than 100"):
                read_shards(mirrors[0])


def test_an_index_of_many_levels_is_a_line(mirrors: tuple[str, str], shards: Path) -> None:
    (shards / INDEX).write_text("[" * 100_000)
    for data in (shards, mirrors[0]):
        with pytest.raises(InputError, match="the index cannot be read"):
            read_shards(data)


@pytest.mark.parametrize("size", [5000, 300_000_000])
def test_a_class_has_a_short_name(size: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    with tarfile.open(folder / "train.tar", "w") as tar:
        member = tarfile.TarInfo("1.cls")
        member.size = size
        tar.addfile(member, BytesIO(bytes(size)))
    assert "too many for a class" in fails(capsys, "index", folder)
