"""`convnext embed`: files of embeddings, what is interrupted, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import fails
from PIL import Image

import convnext
from convnext import cli
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.shards.pack import pack_shards
from convnext.reports import embeddings as files
from convnext.runs.lock import locked
from convnext.tasks.embedding import PART_BATCHES


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network without a head."""
    path = tmp_path_factory.mktemp("weights") / "headless.safetensors"
    model = convnext.create_model("convnextv2_atto", num_classes=0)
    convnext.save_weights(model, path, meta={"task": "embed", "preprocessing": Preprocessing.standard(64).to_dict()})
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 small images that are all different."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / f"{i:02}.png")
    return folder


def embed(*words: object, status: int = 0) -> None:
    assert cli.main(["embed", *map(str, words), "--device", "cpu"]) == status


def rows(path: Path) -> tuple[list[str], np.ndarray]:
    table = pq.read_table(path)
    assert table.column_names == ["path", "embedding"]
    return table["path"].to_pylist(), np.array(table["embedding"].to_pylist(), dtype=np.float32)


def test_a_file_holds_each_image_once_in_order(weights: Path, photos: Path, tmp_path: Path, capsys) -> None:
    embed(weights, photos, "--out", tmp_path / "f.parquet", "--json")
    said = json.loads(capsys.readouterr().out)
    assert said == {"file": str(tmp_path / "f.parquet"), "images": 60, "width": 320, "left_out": []}
    paths, values = rows(tmp_path / "f.parquet")
    assert paths == [str(path) for path in sorted(photos.iterdir())]
    assert pq.read_schema(tmp_path / "f.parquet").field("embedding").type.list_size == 320
    np.testing.assert_allclose(values, convnext.load(weights, device="cpu").embed(paths), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["f.parquet"]


def test_numpys_file_holds_the_same(weights: Path, photos: Path, tmp_path: Path) -> None:
    inputs = [photos / "07.png", photos / "1*.png"]
    embed(weights, *inputs, "--out", tmp_path / "f.npy", "--batch-size", 4, "--workers", 0)
    embed(weights, *inputs, "--out", tmp_path / "f.parquet", "--batch-size", 4)
    paths, values = rows(tmp_path / "f.parquet")
    assert paths[0] == str(photos / "07.png")
    array = np.load(tmp_path / "f.npy")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, values)
    assert (tmp_path / "f.txt").read_text().splitlines() == paths


@pytest.mark.parametrize("form", ["shards", "table"])
def test_images_inside_other_files_embed_as_files(form: str, weights: Path, photos: Path, tmp_path: Path) -> None:
    names, data = sorted(photos.iterdir())[:20], tmp_path / ("few" if form == "shards" else "few.parquet")
    if form == "shards":
        for path in names:
            (tmp_path / "files").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "files")
        pack_shards(str(tmp_path / "files"), data, shard_bytes=30_000, labels=False)
    else:
        pq.write_table(pa.table({"image": [path.read_bytes() for path in names]}), data, row_group_size=7)
    embed(weights, data, "--out", tmp_path / "inside.parquet", "--workers", 1)
    embed(weights, *names, "--out", tmp_path / "files.parquet")
    inside, found = rows(tmp_path / "inside.parquet")
    _, expected = rows(tmp_path / "files.parquet")
    assert len(set(inside)) == 20
    # Shards are in an order of their own, of which their names say the files.
    order = [names.index(photos / Path(name).name) for name in inside] if form == "shards" else range(20)
    np.testing.assert_allclose(found, expected[list(order)], atol=1e-6)


@pytest.mark.parametrize("more", [["--workers", "0"], ["--workers", "1"], ["--batch-size", "5"]])
def test_neither_processes_nor_batches_count(more: list[str], weights: Path, photos: Path, tmp_path: Path) -> None:
    embed(weights, photos, "--out", tmp_path / "a.parquet")
    embed(weights, photos, "--out", tmp_path / "b.parquet", *more)
    (paths, values), (others, same) = rows(tmp_path / "a.parquet"), rows(tmp_path / "b.parquet")
    assert paths == others
    np.testing.assert_allclose(values, same, atol=1e-5)


def test_row_groups_hold_the_same_rows(weights: Path, photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "ROW_GROUP", 20)
    embed(weights, photos, "--out", tmp_path / "a.parquet", "--batch-size", 1)
    assert [pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(i).num_rows for i in (0, 1)] == [32, 28]
    assert rows(tmp_path / "a.parquet")[0] == [str(path) for path in sorted(photos.iterdir())]


@pytest.mark.parametrize("suffix", [pytest.param("parquet", marks=pytest.mark.heavy), "npy"])
def test_a_killed_run_goes_on_to_the_same_bits(
    suffix: str, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "03.png").write_bytes(b"")
    out, whole = tmp_path / f"cut.{suffix}", tmp_path / f"whole.{suffix}"
    words = [str(weights), str(tmp_path / "photos"), "--batch-size", "1", "--workers", "1", "--device", "cpu"]
    command = [sys.executable, "-m", "convnext", "embed", *words, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    parts, end = tmp_path / f"cut.{suffix}.parts", time.monotonic() + 100
    while not list(parts.glob("*.npz")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("*.npz")}
    assert 0 < len(kept) < -(-60 // PART_BATCHES), "killed too late to tell"

    capsys.readouterr()
    embed(*words, "--out", out, status=1)
    assert capsys.readouterr().err.count("03.png") == 1
    assert not parts.exists()
    embed(*words, "--out", whole, status=1)
    assert out.read_bytes() == whole.read_bytes()
    if suffix == "npy":
        assert out.with_suffix(".txt").read_bytes() == whole.with_suffix(".txt").read_bytes()
        assert len(np.load(out)) == 59


@pytest.fixture
def begun(weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A command that failed after its first part, to go on with."""
    command = ["embed", weights, photos, "--out", tmp_path / "f.parquet", "--batch-size", 1, "--workers", 0]
    command += ["--device", "cpu"]
    own, calls = convnext.Embedder.embeddings, iter(range(100))

    def failing(self, inputs):
        if next(calls) == 20:
            raise convnext.InputError("the power went out")
        return own(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(convnext.Embedder, "embeddings", failing)
        assert cli.main([str(word) for word in command]) == 2
    assert len(list((tmp_path / "f.parquet.parts").glob("*.npz"))) == 1
    return command


def test_what_is_done_is_not_done_again(begun: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    own, seen = convnext.Embedder.embeddings, []

    def counting(self, inputs):
        seen.append(len(inputs))
        return own(self, inputs)

    monkeypatch.setattr(convnext.Embedder, "embeddings", counting)
    assert cli.main([str(word) for word in begun]) == 0
    assert sum(seen) == 60 - PART_BATCHES


@pytest.mark.parametrize("change", ["model", "list of images", "image size or crop", "batch size"])
def test_another_run_s_parts_are_refused(
    change: str, begun: list[object], photos: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = list(begun)
    if change == "model":
        model = convnext.create_model("convnextv2_atto", num_classes=0)
        convnext.save_weights(
            model, tmp_path / "b.safetensors", meta={"preprocessing": Preprocessing.standard(64).to_dict()}
        )
        other[1] = tmp_path / "b.safetensors"
    elif change == "list of images":
        other.insert(3, photos / "01.png")
    elif change == "batch size":
        other[other.index("--batch-size") + 1] = 2
    else:
        other += ["--crop", "1"]
        cli.main([str(word) for word in other])  # says how images are seen, too
        assert "another image size or crop: give the same" in capsys.readouterr().err
        return
    assert f"was begun with another {change}: give the same to go on" in fails(capsys, *other)
    if change == "batch size":
        assert cli.main([*map(str, other), "--overwrite"]) == 0
        assert len(rows(tmp_path / "f.parquet")[0]) == 60


def test_unreadable_images_are_named_and_left_out(weights: Path, photos: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    for name in ("00.png", "59.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    embed(weights, tmp_path / "photos", "--out", tmp_path / "f.parquet", "--json", status=1)
    said = capsys.readouterr()
    assert [line.split("/")[-1][:6] for line in json.loads(said.out)["left_out"]] == ["00.png", "59.png"]
    assert "2 of 60 images could not be read" in said.err
    assert [Path(path).name for path in rows(tmp_path / "f.parquet")[0]] == [f"{i:02}.png" for i in range(1, 59)]


def test_a_whole_part_of_unreadable_images_is_left_out(weights: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    for number in range(PART_BATCHES):
        (tmp_path / "photos" / f"{number:02}.png").write_bytes(b"")
    embed(weights, tmp_path / "photos", "--out", tmp_path / "f.parquet", "--batch-size", "1", status=1)
    assert [Path(path).name for path in rows(tmp_path / "f.parquet")[0]] == [
        f"{i:02}.png" for i in range(PART_BATCHES, 60)
    ]


def test_nothing_is_written_where_no_image_can_be_read(weights: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert "a.png" in fails(capsys, "embed", weights, tmp_path / "a.png", "--out", tmp_path / "f.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_cannot_be_written_is_refused(weights: Path, photos: Path, tmp_path: Path, capsys) -> None:
    taken = tmp_path / "taken.parquet"
    taken.write_text("mine")
    for out, line in (
        (tmp_path / "f.csv", "as .parquet or .npy"),
        (taken, "is there already; --overwrite replaces it"),
        (tmp_path / "taken.parquet" / "f.npy", "cannot write"),
    ):
        assert line in fails(capsys, "embed", weights, photos, "--out", out)
    for option in (["--batch-size", "0"], ["--workers", "-1"]):
        assert "must be at least" in fails(capsys, "embed", weights, photos, "--out", tmp_path / "f.npy", *option)
    broken = tmp_path / "two\nlines.png"
    shutil.copy(photos / "00.png", broken)
    assert "line end in its name" in fails(capsys, "embed", weights, broken, "--out", tmp_path / "f.npy")
    with locked(tmp_path / "f.npy.parts"):
        assert "another process" in fails(capsys, "embed", weights, photos, "--out", tmp_path / "f.npy")
    assert taken.read_text() == "mine"


def test_predict_and_evaluate_refuse_what_only_embeds(
    weights: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    projection = tmp_path / "projection.safetensors"
    convnext.save_weights(convnext.create_model("convnextv2_atto", num_classes=24), projection, meta={"task": "embed"})
    pretrained = tmp_path / "pretrained"
    convnext.pretrain(
        colours, out=pretrained, image_size=32, stem_patch=2, patch_size=16, epochs=1, batch_size=8, workers=0
    )
    image = colours / "val" / "red" / "0.png"
    caplog.clear()
    for source in (weights, projection, pretrained):
        for command in (["predict", source, image], ["evaluate", source, colours]):
            assert f"embeddings alone, which `convnext embed {source} INPUT --out FILE` writes" in fails(
                capsys, *command
            )
    assert caplog.text == ""  # which would be lines on stderr
    embed(pretrained, image, "--out", tmp_path / "f.npy")
    assert np.load(tmp_path / "f.npy").shape == (1, 320)


def test_classifiers_embed(run: Path, colours: Path, tmp_path: Path) -> None:
    embed(run, colours, "--out", tmp_path / "f.parquet", "--image-size", 48)
    assert rows(tmp_path / "f.parquet")[1].shape == (36, 128)


def test_other_files_beside_the_parts_are_kept(weights: Path, photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "f.npy.parts" / "mine.txt"
    own.parent.mkdir()
    own.write_text("mine")
    embed(weights, photos / "00.png", "--out", tmp_path / "f.npy", "--overwrite")
    assert [path.name for path in own.parent.iterdir()] == ["mine.txt"]
    embed(weights, photos / "01.png", "--out", tmp_path / "f.npy", "--overwrite")
    assert (tmp_path / "f.txt").read_text() == f"{photos / '01.png'}\n"


def test_a_damaged_part_is_a_line(begun: list[object], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    part = tmp_path / "f.parquet.parts" / "000000.npz"
    part.write_bytes(part.read_bytes()[:1000])
    assert "000000.npz is damaged; --overwrite begins anew" in fails(capsys, *begun)
