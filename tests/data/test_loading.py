"""What a loader gives depends on seed, epoch and index alone; unreadable images never stop it in the middle."""

import multiprocessing.context
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from vacuous import nonempty

from convnext.data.augment.transforms import train_transform
from convnext.data.image_set import ImageSet
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.loading import Batch, eval_loader, train_loader
from convnext.errors import InputError

GREY = Preprocessing.standard(16, in_chans=1)


def in_memory(count: int) -> ImageSet:
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12), dtype=np.uint8)
    return ImageSet(
        tuple("abc"), [index % 3 for index in range(count)], False, [f"m/{n}" for n in range(count)], images
    )


def on_disk(folder: Path, count: int, broken: set[int]) -> ImageSet:
    sources = []
    for index in range(count):
        path = folder / f"{index}.png"
        if index in broken:
            path.touch()
        else:
            Image.new("L", (16, 16), index).save(path)
        sources.append(str(path))
    return ImageSet(("a", "b"), [index % 2 for index in range(count)], False, sources)


def training(samples: ImageSet, workers: int = 0, seed: int = 0, batch_size: int = 8):
    return train_loader(samples, train_transform(GREY), batch_size=batch_size, workers=workers, seed=seed, mode="L")


def same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a.on("cpu"), b.on("cpu"))
        and torch.equal(a.targets, b.targets)
        and torch.equal(a.indices, b.indices)
        for a, b in zip(left, right, strict=True)
    )


def test_the_number_of_workers_changes_nothing():
    samples = in_memory(44)
    epochs = []
    for workers in (0, 1, 2):
        loader = training(samples, workers)
        found = []
        for epoch in (0, 1):
            loader.set_epoch(epoch)
            found.append(list(loader))
        epochs.append(found)
    for found in nonempty(epochs[1:]):
        assert same(found[0], epochs[0][0])
        assert same(found[1], epochs[0][1])
    assert not same(epochs[0][0], epochs[0][1])


def test_batches_are_complete_shuffled_and_without_repeats():
    loader = training(in_memory(44))
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    indices = torch.cat([batch.indices for batch in batches]).tolist()
    assert len(set(indices)) == 40
    assert indices != sorted(indices)
    assert all(batch.on("cpu").shape == (8, 1, 16, 16) and batch.on("cpu").dtype == torch.float32 for batch in batches)
    assert all(batch.targets.tolist() == [index % 3 for index in batch.indices] for batch in batches)
    assert all(batch.unreadable == [] for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_is_the_tail_of_the_whole(workers: int):
    loader = training(in_memory(44), workers)
    loader.set_epoch(3)
    whole = list(loader)
    loader.set_epoch(3, start_batch=2)
    assert same(list(loader), whole[2:])
    loader.set_epoch(3, start_batch=5)
    assert list(loader) == []
    assert len(loader) == 5


def test_an_epoch_left_in_the_middle_does_not_disturb_the_next():
    loader = training(in_memory(80), workers=2)
    for _ in loader:
        break
    loader.set_epoch(1)
    fresh = training(in_memory(80))
    fresh.set_epoch(1)
    assert same(list(loader), list(fresh))


def test_seeds_differ():
    assert not same(list(training(in_memory(16), seed=0)), list(training(in_memory(16), seed=1)))


def test_fewer_samples_than_a_batch_make_one():
    loader = training(in_memory(5), batch_size=64)
    (batch,) = loader
    assert len(loader) == 1
    assert sorted(batch.indices.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_callers_random_states_are_left_alone(workers: int):
    def draws() -> tuple:
        return random.random(), np.random.rand(), torch.rand(1).item()

    def seed() -> None:
        random.seed(0), np.random.seed(0), torch.manual_seed(0)

    seed()
    expected = draws()
    seed()
    list(training(in_memory(16), workers))
    list(eval_loader(in_memory(16), GREY, batch_size=8, workers=workers))
    assert draws() == expected


def test_multi_label_targets_are_multi_hot():
    samples = ImageSet(tuple("abcd"), [(0, 2), (), (3,)], True, ["m/0", "m/1", "m/2"], np.zeros((3, 8, 8), np.uint8))
    (batch,) = eval_loader(samples, GREY, batch_size=8, workers=0)
    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_is_in_order_and_leaves_out_what_cannot_be_read(tmp_path: Path, workers: int):
    samples = on_disk(tmp_path, 11, broken={1, 4, 5, 6, 7})
    loader = eval_loader(samples, GREY, batch_size=4, workers=workers)
    batches = list(loader)
    assert len(loader) == 3
    assert [batch.indices.tolist() for batch in batches] == [[0, 2, 3], [], [8, 9, 10]]
    assert batches[0].unreadable == [(1, f"{tmp_path}/1.png: zero bytes")]
    assert batches[1].on("cpu").shape == (0, 1, 16, 16)
    assert batches[1].targets.shape == (0,)
    assert torch.equal(batches[2].on("cpu")[0], GREY(samples.open(8, "L")))


def test_an_image_that_preprocessing_refuses_is_reported_by_its_path(tmp_path: Path):
    Image.new("L", (1, 2_000_000)).save(tmp_path / "thread.png")
    samples = ImageSet(("a", "b"), [0], False, [str(tmp_path / "thread.png")])
    rule = Preprocessing.standard(224, in_chans=1)
    (batch,) = eval_loader(samples, rule, batch_size=4, workers=0)
    assert batch.unreadable[0][1].startswith(f"{tmp_path}/thread.png: image of 1×2000000 pixels is too elongated")


@pytest.mark.parametrize("workers", [0, 2])
def test_training_fills_the_places_of_unreadable_images(tmp_path: Path, workers: int):
    samples = on_disk(tmp_path, 16, broken={2, 3, 5})
    batches = list(training(samples, workers))
    assert sorted(index for batch in batches for index, _ in batch.unreadable) == [2, 3, 5]
    for batch in batches:
        assert batch.on("cpu").shape[0] == len(batch.indices) == 8
        assert not {2, 3, 5} & set(batch.indices.tolist())
        assert batch.targets.tolist() == [index % 2 for index in batch.indices]
        first = batch.indices.tolist().index(batch.indices[-1])
        assert torch.equal(batch.on("cpu")[first], batch.on("cpu")[-1])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_of_unreadable_images_stops_training(tmp_path: Path, workers: int):
    samples = on_disk(tmp_path, 4, broken={0, 1, 2, 3})
    with pytest.raises(InputError, match=r"^none of the 4 images of a batch can be read; the first: .*: zero bytes$"):
        list(training(samples, workers))


class Crash:
    """A transform whose process dies, as when the system runs out of memory."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


def test_a_killed_worker_is_an_error_and_no_hang():
    loader = train_loader(in_memory(16), Crash(), batch_size=8, workers=1, seed=0, mode="L")
    start = time.monotonic()
    with pytest.raises(InputError, match="a process that loads images was killed"):
        list(loader)
    assert time.monotonic() - start < 30


def test_workers_leave_ctrl_c_to_the_parent():
    class Interrupted:
        def __call__(self, image: Image.Image) -> torch.Tensor:
            os.kill(os.getpid(), signal.SIGINT)
            return torch.zeros(1, 1, 1)

    loader = train_loader(in_memory(16), Interrupted(), batch_size=8, workers=1, seed=0, mode="L")
    assert len(list(loader)) == 2


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (multiprocessing.context.ForkProcess, "start"),  # the first of the loading processes begins
        (_MultiProcessingDataLoaderIter, "_next_data"),  # a batch is waited for
    ],
)
def test_an_interruption_leaves_no_loading_process(owner: type, name: str, monkeypatch: pytest.MonkeyPatch):
    original = getattr(owner, name)

    def interrupted(*args: Any) -> Any:
        done = original(*args)
        signal.raise_signal(signal.SIGINT)
        return done

    monkeypatch.setattr(owner, name, interrupted)
    of_others = set(multiprocessing.active_children())
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by tests that run in the background
    for loader in (training(in_memory(16), workers=2), eval_loader(in_memory(16), GREY, batch_size=8, workers=2)):
        with pytest.raises(KeyboardInterrupt):
            list(loader)
        assert set(multiprocessing.active_children()) <= of_others  # the error is kept, by pytest as by a notebook
    assert signal.signal(signal.SIGINT, handler) is signal.default_int_handler


def test_a_program_that_fails_ends(tmp_path: Path):
    program = """
from convnext.data.loading import eval_loader
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.image_set import read_split

loader = eval_loader(read_split("digits", "val"), Preprocessing.standard(16, in_chans=1), batch_size=8, workers=2)
batches = iter(loader)
next(batches)
raise RuntimeError("on purpose")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "on purpose" in ended.stderr
