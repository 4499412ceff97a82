"""Threads read images ahead of the network: the answers are those of one by one, few are held, no thread stays."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sitecustomize import BYTE
from vacuous import nonempty

import convnext
from convnext.cores import usable_cores
from convnext.data.images.decode import read_image
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.images.whole_image import WholeImage
from convnext.errors import ImageError, InputError
from convnext.inference.depth import DepthUnit
from convnext.inference.reading import read_ahead
from convnext.models.detection.rcnn import create_detector
from convnext.models.segmentation.upernet import create_segmenter

COUNT = 23
"""Images: some batches, and a part of one."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """JPEG files of different sizes, so that the later may be read before the earlier."""
    folder, noise = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(COUNT):
        side = 400 if number % 5 == 0 else 40 + number
        Image.fromarray(noise.integers(0, 256, (side, 50, 3), np.uint8)).save(folder / f"{number:02}.jpg")
    return sorted(folder.iterdir())


def predictor_of(task: str) -> Any:
    torch.manual_seed(0)
    if task in ("classify", "embed"):
        model: Any = convnext.create_model(BYTE, num_classes=5 if task == "classify" else 0)
        rule = Preprocessing.standard(32)
        return (
            convnext.ImageClassifier(model, list("abcde"), rule)
            if task == "classify"
            else convnext.Embedder(model, rule)
        )
    if task == "detect":
        model = create_detector(BYTE, num_classes=2, fpn_dim=16, linear_dim=16)
        return convnext.Detector(model, ["a", "b"], [1, 2], WholeImage(32, 64))
    model = create_segmenter(BYTE, num_classes=1 if task == "depth" else 2, fpn_dim=16, aux_dim=16)
    if task == "segment":
        return convnext.Segmenter(model, ["a", "b"], WholeImage(32, 64))
    return convnext.DepthEstimator(model, WholeImage(32, 64), DepthUnit(True, 0.0, 1.0), depth_scale=1000)


def numbers(answer: Any) -> np.ndarray:
    """What an answer says, as one array."""
    if isinstance(answer, np.ndarray):
        return answer
    values = [[one["score"], *one.get("box", [])] for one in answer]
    return np.array(values, dtype=np.float64)


def test_torch_has_its_threads_in_the_caller_and_one_in_a_reader() -> None:
    caller = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: list[int] = []
    try:
        with read_ahead([np.zeros((4, 4, 3), np.uint8)] * 9, read_image, lambda _: torch.get_num_threads()) as results:
            assert list(results) == [1] * 9
            assert torch.get_num_threads() == 2
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [2]
    finally:
        torch.set_num_threads(caller)


@pytest.mark.parametrize("task", ["classify", "embed", "detect", "segment", "depth"])
def test_answers_about_many_are_those_about_each_in_order(task: str, paths: list[Path]) -> None:
    predictor = predictor_of(task)
    alone = [numbers(predictor(path)) for path in paths]
    for size in (1, 4, 64):
        together = predictor(paths, batch_size=size)
        assert len(together) == COUNT
        for one, other in zip(map(numbers, together), alone, strict=True):
            if size == 1:
                np.testing.assert_array_equal(one, other)
            elif task != "detect":  # whose random network finds hundreds of objects with nearly the same score
                np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    assert len({each.tobytes() for each in alone}) >= 8, "they must differ, for an order to be seen"


def test_every_form_of_an_image_can_stand_in_a_list_also_twice(paths: list[Path]) -> None:
    predictor = predictor_of("classify")
    pixels = np.asarray(Image.open(paths[3]))
    for _ in range(10):
        opened = Image.open(paths[3])  # not loaded yet
        with open(paths[3], "rb") as file:
            tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
            forms = [paths[3], str(paths[3]), paths[3].read_bytes(), opened, file, pixels, tensor, opened, opened]
            embedded = predictor.embed(forms)
        assert (np.ptp(embedded, axis=0) < 1e-5).all()


def test_a_files_bytes_are_an_image(paths: list[Path]) -> None:
    predictor = predictor_of("classify")
    assert predictor(paths[0].read_bytes()) == predictor(paths[0])
    with pytest.raises(ImageError, match=r"^image: zero bytes"):
        predictor(b"")
    with pytest.raises(ImageError, match=r"^image: not an image"):
        predictor([paths[0], b"no image"])


def test_the_first_unreadable_image_of_a_list_is_the_error(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "first.jpg").write_bytes(paths[0].read_bytes()[:5000])  # read for longer than the next
    (tmp_path / "second.jpg").write_bytes(b"")
    mixed = [*paths[:9], tmp_path / "first.jpg", tmp_path / "second.jpg", *paths[9:]]
    for task in ("classify", "detect"):
        with pytest.raises(ImageError, match=r"first\.jpg: truncated"):
            predictor_of(task)(mixed, batch_size=4)
    assert readers() == []


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("convnext-read")]


def test_errors_stand_at_their_place_and_the_rest_goes_on(paths: list[Path], tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    with read_ahead([paths[0], missing, paths[1], b""], read_image, lambda image: image.size) as results:
        found = list(results)
    assert [found[0], found[2]] == [(50, 400), (50, 41)]
    assert [str(found[1]), str(found[3])] == [
        f"{missing}: cannot be opened: no such file or directory",
        "image: zero bytes",
    ]


@pytest.mark.parametrize("ahead", [1, 5, 16])
def test_few_images_are_held_at_once(ahead: int) -> None:
    """Of a source without an end, no more are taken than were asked for and may wait."""
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        while True:
            taken += 1
            yield np.full((8, 8, 3), taken % 256, np.uint8)

    held, most, lock = 0, 0, threading.Lock()

    class Held:
        def __init__(self, image: Image.Image) -> None:
            nonlocal held, most
            self.value = image.getpixel((0, 0))
            with lock:
                held += 1
                most = max(most, held)

        def __del__(self) -> None:
            nonlocal held
            with lock:
                held -= 1

    with read_ahead(endless(), read_image, Held, ahead=ahead) as results:
        for number in range(1, 200):
            assert next(results).value == (number % 256,) * 3
            assert taken <= number + max(ahead, len(usable_cores()))
    assert most <= max(ahead, len(usable_cores())) + 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError, ZeroDivisionError])
def test_no_thread_is_left_behind(error: type[BaseException], paths: list[Path]) -> None:
    """Where the network fails, where preparing an image does, and where a user interrupts."""

    def fail(*_: Any) -> Any:
        raise error

    predictor = predictor_of("classify")
    before, threads = set(threading.enumerate()), torch.get_num_threads()
    predictor.model.forward = fail
    with pytest.raises(error):
        predictor(paths)
    with pytest.raises(error):
        predictor.each(paths, 4, fail, list)
    assert set(threading.enumerate()) <= before
    assert torch.get_num_threads() == threads


def test_what_an_image_shares_is_read_in_order_by_the_caller() -> None:
    places: list[tuple[int, str]] = []

    class File:
        def __init__(self, number: int) -> None:
            self.number = number

        def read(self) -> bytes:
            places.append((self.number, threading.current_thread().name))
            return b""

    caller = threading.current_thread().name
    with read_ahead([File(n) for n in range(20)], read_image, lambda image: image) as results:
        assert all(isinstance(result, ImageError) for result in nonempty(results))
    assert places == [(n, caller) for n in range(20)]


def test_commands_read_few_images_at_once_and_end_their_threads(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """And print what they can, in order, with the unreadable in its place."""
    from convnext.tasks.classify.predict import label_inputs
    from convnext.tasks.depth.predict import estimate_inputs
    from convnext.tasks.detect.predict import detect_inputs
    from convnext.tasks.segment.predict import segment_inputs

    listed: list[tuple[str, Any]] = [(path.name, path) for path in paths[:20]]
    listed.insert(7, ("bad", b"bad"))
    commands: dict[str, Callable[..., int]] = {
        "classify": lambda *args, **how: label_inputs(*args, single=False, **how),
        "detect": detect_inputs,
        "segment": segment_inputs,
        "depth": estimate_inputs,
    }
    for task, command in nonempty(commands.items()):
        assert command(predictor_of(task), listed, as_json=True) == 1
        said, complained = capsys.readouterr()
        rows = [json.loads(line) for line in said.splitlines()]
        assert [row["image"] for row in rows] == [name for name, _ in listed], task
        assert ["error" in row for row in rows] == [name == "bad" for name, _ in listed], task
        assert complained.splitlines() == [
            "convnext: image: not an image (looks like text)",
            "convnext: 1 of 21 images could not be read",
        ]
        monkeypatch.setattr("builtins.print", _broken_pipe)
        with pytest.raises(BrokenPipeError):
            command(predictor_of(task), listed, as_json=True)
        monkeypatch.undo()
        assert readers() == [], task


def _broken_pipe(*_: Any, **__: Any) -> None:
    raise BrokenPipeError
