"""Tar shards hold what the folder held, are read by others, and train as folders do; behind http too."""

from __future__ import annotations

import json
import multiprocessing
import tarfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from making import FAST, fails, make_folder
from PIL import Image
from safetensors.torch import load_file
from vacuous import nonempty

from convnext import cli
from convnext.data.image_set import ImageSet, read_images, read_split, read_train_val
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import eval_loader, train_loader
from convnext.data.shards import read as shards
from convnext.data.shards.pack import pack_shards
from convnext.data.shards.prefetch import AHEAD
from convnext.errors import ImageError, InputError
from convnext.runs.directory import Run
from convnext.storage import cache


def packed(data: Path, out: Path, **options: object) -> Path:
    pack_shards(str(data), out, **{"shard_bytes": 10**8, **options})
    return out


@pytest.fixture
def small(colours: Path, tmp_path: Path) -> Path:
    """`colours` in several shards."""
    return packed(colours, tmp_path / "shards", shard_bytes=30_000)


def contents(samples: ImageSet, root: Path) -> dict[str, tuple[str, bytes]]:
    """By the image's path below the folder it came from: its class and its pixels."""
    return {
        source.removeprefix(f"{root}/").partition(".tar/")[2] or source.removeprefix(f"{root}/"): (
            samples.classes[target],
            samples.open(index, "RGB").tobytes(),
        )
        for index, (source, target) in enumerate(zip(samples.sources, samples.targets, strict=True))
    }


def test_shards_hold_what_the_folder_held(small: Path, colours: Path) -> None:
    assert len(list(small.glob("train-*.tar"))) > 2
    for ours, theirs in nonempty(zip(read_train_val(small)[:2], read_train_val(colours)[:2], strict=True)):
        assert ours.classes == theirs.classes
        assert contents(ours, small) == contents(theirs, colours)
    assert len(read_images(small)) == len(read_images(colours / "train"))


def test_packing_again_gives_the_same_bytes(colours: Path, tmp_path: Path) -> None:
    first, second, other = (packed(colours, tmp_path / str(n), seed=int(n == 2)) for n in range(3))
    for path in nonempty(first.iterdir()):
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert (first / "train-000000.tar").read_bytes() != (other / "train-000000.tar").read_bytes()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves it so
def test_webdataset_reads_them(small: Path) -> None:
    val = read_split(small, "val")
    files = sorted(str(path) for path in small.glob("val-*.tar"))
    read = list(
        webdataset.WebDataset(files, shardshuffle=False, empty_check=False).decode("pil").to_tuple("png", "cls")
    )
    assert len(read) == len(val)
    for index, (image, label) in enumerate(read):
        assert label == val.targets[index]
        assert image.tobytes() == val.open(index, "RGB").tobytes()


def test_tables_of_several_labels_and_flat_folders(colours: Path, tmp_path: Path) -> None:
    table = colours.parent / "table.csv"
    table.write_text("path,labels,split\ncolours/train/red/0.png,a|b,train\ncolours/train/red/1.png,,val\n")
    samples = read_split(packed(table, tmp_path / "table", multi_label=True), "all", multi_label=True)
    assert dict(zip((Path(s).name for s in samples.sources), samples.targets, strict=True)) == {
        "0.png": (0, 1),
        "1.png": (),
    }
    with pytest.raises(InputError, match="has several labels; it takes a multi-label task"):
        read_split(tmp_path / "table", "train")
    flat = packed(colours, tmp_path / "flat", labels=False)
    assert len(read_images(flat)) == 36
    with pytest.raises(InputError, match="has no label; `convnext pretrain` needs none"):
        read_split(flat, "train")


def test_tar_files_of_others_get_an_index(tmp_path: Path) -> None:
    for name, count in (("my-test-train-0", 6), ("x-validation-0", 3), ("x-test-0", 2)):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            for number in range(count):
                image = BytesIO()
                Image.new("RGB", (8, 8), (number * 20, 0, 0)).save(image, "PNG")
                members = {
                    f"d/{number}.png": image.getvalue(),
                    f"d/{number}.cls": b"%d" % (number % 3),
                    f"d/{number}.seg.png": b"a mask",
                }
                for member, content in members.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, BytesIO(content))
    (tmp_path / "classes.txt").write_text("c\nb\na\n")
    assert cli.main(["index", str(tmp_path)]) == 0
    train, val, _ = read_train_val(tmp_path)
    assert train.classes == ("c", "b", "a")
    assert (len(train), len(val)) == (6, 3)
    assert len(read_split(tmp_path, "test")) == 2
    assert train.targets == [0, 1, 2, 0, 1, 2]
    assert train.open(4, "RGB").getpixel((0, 0)) == (80, 0, 0)


def test_the_order_begins_shards_one_after_the_other() -> None:
    count, each = 200, 50
    members = shards.ShardMembers(
        tuple(map(str, range(count))),
        (0,) * count,
        (None,) * count,
        None,
        np.repeat(np.arange(count), each),
        *np.zeros((2, count * each), int),
    )
    order = members.shuffled(np.random.default_rng(0))
    assert sorted(order) == list(range(count * each))
    of = members.shard[order]
    first = {shard: place for place, shard in reversed(list(enumerate(of.tolist())))}
    last = {shard: place for place, shard in enumerate(of.tolist())}
    in_use = [sum(first[s] <= place <= last[s] for s in range(count)) for place in range(0, len(of), 97)]
    assert max(in_use) <= shards.MIXED + 1
    assert len(set(of[2000:2064].tolist())) > 8  # a batch sees many of them
    assert not np.array_equal(order, members.shuffled(np.random.default_rng(1)))


@pytest.mark.parametrize("task", ["classify", pytest.param("pretrain", marks=pytest.mark.heavy)])
def test_a_run_on_shards_goes_on_in_the_middle(task: str, small: Path, tmp_path: Path) -> None:
    """With other workers, after the third step of four: as a run that never stopped."""
    command = ["train", "classify"] if task == "classify" else ["pretrain", "--patch-size", "32", "--image-size", "64"]
    command = [*command, str(small), *(FAST if task == "classify" else ["--epochs", "2", "--batch-size", "8"])]
    assert cli.main([*command, "--workers", "0", "--out", str(tmp_path / "whole")]) == 0
    from convnext.train.trainer import Trainer

    step, out = Trainer.train_step, tmp_path / "run"

    def stop(self: Trainer, batch: object) -> float:
        if self.step == 2:
            self.stop.received = 15
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", stop)
        assert cli.main([*command, "--workers", "0", "--out", str(out)]) == 128 + 15
    assert cli.main([*command, "--workers", "2", "--out", str(out), "--resume"]) == 0
    assert [row["loss"] for row in Run(out).rows()] == [row["loss"] for row in Run(tmp_path / "whole").rows()]
    whole, again = (load_file(run / "model.safetensors") for run in (tmp_path / "whole", out))
    assert all(torch.equal(whole[name], again[name]) for name in nonempty(whole))


@pytest.fixture
def server(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`small` behind http; `asked` lists what is asked for."""

    class Handler(SimpleHTTPRequestHandler):
        asked: list[str] = []  # noqa: RUF012 - one server, one list
        address = ""

        def do_GET(self) -> None:
            self.asked.append(self.path.rsplit("/", 1)[1])
            super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(small.parent))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(cache, "PAUSES", (0,))
        Handler.address = f"http://127.0.0.1:{http.server_port}/{small.name}"
        yield Handler
        http.shutdown()
        thread.join()


def test_shards_behind_http_are_fetched_once(server, small: Path) -> None:
    for _ in range(2):
        shards._opened.cache_clear()
        theirs = read_split(server.address, "train")
        assert contents(theirs, Path("none")) == contents(read_split(small, "train"), small)
    tars = [name for name in server.asked if name.endswith(".tar")]
    assert sorted(tars) == sorted(path.name for path in small.glob("train-*.tar"))


def test_shards_are_fetched_a_little_before_their_turn(server, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = read_images(server.address)
    fetched: list[int] = []
    monkeypatch.setattr(shards.ShardMembers, "_fetch", lambda self, kept, shard: fetched.append(shard))
    lies_in = samples.members.shard
    order = sorted(range(len(samples)), key=lambda index: (-lies_in[index], index))  # the last shard first
    turns = list(dict.fromkeys(lies_in[order].tolist()))
    assert len(turns) > AHEAD + 1

    def wait_for(wanted: list[int]) -> None:
        limit = time.monotonic() + 5
        while fetched != wanted and time.monotonic() < limit:
            time.sleep(0.01)
        assert fetched == wanted

    with samples.read_ahead(order) as ahead:
        wait_for(turns[:AHEAD])
        ahead.reached(1)  # the first shard is begun
        wait_for(turns[: AHEAD + 1])
        time.sleep(0.1)
        assert fetched == turns[: AHEAD + 1]


def test_there_may_be_nothing_left_to_read(server) -> None:
    samples = read_images(server.address)
    loader = train_loader(samples, Preprocessing.standard(32), batch_size=4, workers=0, seed=0, mode="RGB")
    loader.set_epoch(0, len(loader))  # as in a run that stopped between an epoch's last step and its evaluation
    assert list(loader) == []


def test_training_reads_ahead(server, small: Path) -> None:
    samples = read_images(server.address)
    loader = train_loader(samples, Preprocessing.standard(32), batch_size=4, workers=2, seed=0, mode="RGB")
    seen = [index for batch in loader for index in batch.indices.tolist()]
    assert len(set(seen)) == len(seen) == len(loader) * 4
    tars = [name for name in server.asked if name.endswith(".tar")]
    assert sorted(tars) == sorted(path.name for path in small.glob("train-*.tar"))  # once, whoever asked first


def test_the_cache_keeps_to_its_size(server, small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVNEXT_CACHE_GB", "0.0001")
    foreign = tmp_path / "cache" / "thesis.tar"
    foreign.parent.mkdir()
    foreign.write_bytes(bytes(200_000))
    samples = read_split(server.address, "train")
    for index in range(len(samples)):
        samples.open(index, "RGB")
    tars = list((tmp_path / "cache" / "shards").rglob("*.tar"))
    assert sum(path.stat().st_size for path in tars) < 100_000
    assert foreign.exists()


def test_what_is_wrong_with_shards_is_said(server, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def training(data: object) -> str:
        return fails(capsys, "train", "classify", data, "--out", tmp_path / "run", *FAST)

    assert "the server answers 404" in training(f"{server.address}/nothing")
    assert "cannot download http://127.0.0.1:9/" in training("http://127.0.0.1:9/shards")
    remote = read_split(server.address, "train")
    shards._opened.cache_clear()
    tar = small / "train-000001.tar"
    content = tar.read_bytes()
    tar.unlink()
    lost = next(index for index, source in enumerate(remote.sources) if "train-000001.tar" in source)
    with pytest.raises(InputError, match=r"train-000001.tar: the server answers 404"):
        remote.open(lost, "RGB")
    assert "train-000001.tar cannot be read: no such file" in training(small)
    tar.write_bytes(content[:-20_000])
    assert f"train-000001.tar has {len(content) - 20_000} bytes, and {len(content)} by the index" in training(small)
    with pytest.raises(InputError, match=r"bytes, and \d+ by the index: it has been replaced"):
        remote.open(lost, "RGB")
    tar.write_bytes(content)
    index = json.loads((small / "shards.json").read_text())
    (small / "shards.json").write_text(json.dumps({**index, "format": 99}))
    assert "the index is of format 99, this version reads 1" in training(small)
    (small / "shards.json").write_text("{")
    assert "the index cannot be read" in training(small)


def test_a_shard_that_vanishes_stops_the_run_and_its_loading_processes(small: Path) -> None:
    samples, look = read_split(small, "train"), Preprocessing.standard(32)
    training = train_loader(samples, look, batch_size=8, workers=2, seed=0, mode="RGB")
    shards._opened.cache_clear()
    (small / "train-000001.tar").unlink()
    for loader in (training, eval_loader(samples, look, batch_size=8, workers=2)):
        with pytest.raises(InputError, match=r"^\S*train-000001.tar cannot be read: no such file or directory$"):
            list(loader)
        assert not multiprocessing.active_children()  # the error is kept, by pytest


def test_bad_images_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "colours")
    image = folder / "train" / "red" / "0.png"
    image.write_bytes(image.read_bytes()[:200])  # begins like one, so it is packed
    samples = read_split(packed(folder, tmp_path / "shards"), "train")
    bad = next(n for n, source in enumerate(samples.sources) if source.endswith("train/red/0.png"))
    with pytest.raises(ImageError, match=r"shards/train-000000.tar/train/red/0.png: truncated image"):
        samples.open(bad, "RGB")


def test_bad_packing(colours: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "is not empty" in fails(capsys, "pack", colours, "--out", small)
    assert "is packed already" in fails(capsys, "pack", small, "--out", tmp_path / "new")
    assert "no tar files to index" in fails(capsys, "index", colours)
    assert "has an index already" in fails(capsys, "index", small)
    assert "no such folder" in fails(capsys, "pack", tmp_path / "none", "--out", tmp_path / "new")
    assert "--shard-mb must be at least 1" in fails(
        capsys, "pack", colours, "--out", tmp_path / "new", "--shard-mb", "0"
    )
    assert not (tmp_path / "new").exists()
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "a.tar").write_bytes(b"no tar file")
    assert "a.tar: not a whole tar file" in fails(capsys, "index", tmp_path / "tars")


def read_all(address: str) -> int:
    samples = read_split(address, "train")
    return sum(samples.open(index, "RGB").width > 0 for _ in range(3) for index in range(len(samples)))


def test_processes_share_a_cache_that_is_too_small(server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVNEXT_CACHE_GB", "0.00006")
    monkeypatch.setattr(shards, "_opened", shards._opened.__wrapped__)  # opens a shard for every image
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(read_all, [server.address] * 3) == [72, 72, 72]


def test_a_busy_server_is_asked_again(server, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([503, 429])
    get = server.do_GET

    def busy(self) -> None:
        if (code := next(answers, None)) is not None:
            self.send_error(code)
        else:
            get(self)

    monkeypatch.setattr(server, "do_GET", busy)
    monkeypatch.setattr(cache, "PAUSES", (0, 0))
    assert len(read_split(server.address, "train")) == 24


def test_nothing_to_pack(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for path in folder.rglob("*.png"):
        path.unlink()
        path.symlink_to(tmp_path / "nowhere.png")
    assert "none of 36 files can be opened; the first: " in fails(capsys, "pack", folder, "--out", tmp_path / "new")
