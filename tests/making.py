"""Small labelled folders, options for quick runs, a command's figures and failures, and waiting for a run."""

import csv
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from sitecustomize import BYTE

from convnext import cli
from convnext.runs.directory import Run

COLOURS = {"blue": (30, 60, 220), "green": (40, 200, 60), "red": (220, 40, 30)}

FAST = ["--image-size", "32", "--epochs", "2", "--batch-size", "8", "--workers", "0", "--muon-lr-scale", "none"]
FAST += ["--model", BYTE]
"""Options that make a training run of `folder` take a second or two."""


FAST_DETECT = ["--image-size", "64", "--test-size", "64", "--fpn-dim", "16", "--linear-dim", "32", "--mask-convs", "1"]
FAST_DETECT += ["--rois-per-image", "64", "--model", BYTE]
FAST_DETECT += ["--epochs", "2", "--batch-size", "2", "--workers", "0", "--eval-every", "1"]
FAST_DETECT += ["--muon-lr-scale", "none"]
"""The same for a detector of `make_objects`."""

LARGER = ["--model", "convnextv2_atto", "--fpn-dim", "32", "--linear-dim", "64", "--rois-per-image", "512"]
"""Options after `FAST_DETECT` of a detector that can learn to find something."""
FINDING = [*LARGER, "--base-lr", "3e-3", "--epochs", "4", "--seed", "2"]
"""Options after `FAST_DETECT` by which a detector finds something, so that its figures are not all 0; of PyTorch 2.11
one with another seed does not."""

FAST_SEGMENT = ["--image-size", "48", "--short-side", "48", "--test-size", "48", "--fpn-dim", "32", "--aux-dim", "16"]
FAST_SEGMENT += ["--epochs", "2", "--batch-size", "4", "--workers", "0", "--eval-every", "1"]
FAST_SEGMENT += ["--muon-lr-scale", "none", "--model", BYTE]
"""The same for a segmenter of `make_scenes`."""


def make_folder(root: Path, *, train: int = 8, val: int = 4, size: int = 40) -> Path:
    """Noisy one-colour images, a folder for each of three colours, under train/ and val/."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 40, (size, size, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


def make_objects(root: Path, *, train: int = 6, val: int = 3, size: int = 64) -> Path:
    """Images with one or two filled squares and circles, wide and tall, and COCO's JSON for them."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        images, annotations = [], []
        (root / split).mkdir(parents=True)
        for i in range(count):
            width, height = (size, size * 3 // 4) if i % 2 else (size * 3 // 4, size)
            image = Image.fromarray(rng.integers(0, 60, (height, width, 3), dtype=np.uint8))
            for kind in rng.permutation(2)[: 1 + i % 2].tolist():
                x, y, side = (int(n) for n in (*rng.integers(2, size // 4, 2), rng.integers(14, 22)))
                x += kind * size // 4
                box = (x, y, x + side, y + side)
                pen = ImageDraw.Draw(image)
                (pen.rectangle, pen.ellipse)[kind](box, fill=((220, 60, 40), (40, 200, 90))[kind])
                angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
                circle = np.stack([x + side / 2 * (1 + np.cos(angles)), y + side / 2 * (1 + np.sin(angles))], 1)
                outline = [circle.ravel().tolist() if kind else [x, y, x + side, y, x + side, y + side, x, y + side]]
                row = {"image_id": i + 1, "category_id": 10 * (kind + 1), "bbox": [x, y, side, side], "iscrowd": 0}
                annotations.append({"id": len(annotations) + 1, **row, "area": side**2, "segmentation": outline})
            image.save(root / split / f"{i}.png")
            images.append({"id": i + 1, "file_name": f"{i}.png", "width": width, "height": height})
        categories = [{"id": 10, "name": "square"}, {"id": 20, "name": "circle"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


def make_scenes(root: Path, *, train: int = 8, val: int = 3) -> Path:
    """Ground below sky, and on it a box; label maps of 0, 1, 2, and 9 for the frame's left edge, to ignore."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    (root / "classes.txt").write_text("sky\nground\nbox\n")
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            width, height = (70, 50) if i % 2 else (50, 61)
            labels = np.zeros((height, width), dtype=np.uint8)
            horizon, x = int(rng.integers(20, 30)), int(rng.integers(5, 25))
            labels[horizon:] = 1
            labels[horizon - 8 : horizon + 8, x : x + 18] = 2
            colours = np.array([(90, 150, 240), (60, 120, 40), (220, 60, 40)])[labels]
            pixels = np.clip(colours + rng.normal(0, 25, (height, width, 3)), 0, 255).astype(np.uint8)
            labels[:, 0] = 9
            Image.fromarray(pixels).save(root / "images" / split / f"{i}.png")
            Image.fromarray(labels).save(root / "annotations" / split / f"{i}.png")
    return root


def make_depths(root: Path, *, train: int = 8, val: int = 3) -> Path:
    """A floor that is nearer further down, and on it a box, brighter the nearer it is; depth maps of millimetres, with
    0 for the frame's left edge."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for kind in ("images", "depth"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            width, height = (70, 50) if i % 2 else (50, 61)
            depths = np.linspace(8, 2, height)[:, None].repeat(width, 1)
            x, near = int(rng.integers(5, 25)), float(rng.uniform(1, 2))
            shades = 40 + 10 * depths
            depths[height // 2 : height - 8, x : x + 20] = near
            shades[height // 2 : height - 8, x : x + 20] = 300 - 60 * near
            noisy = shades[..., None] + rng.normal(0, 4, (height, width, 3))
            depths[:, 0] = 0
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / "images" / split / f"{i}.png")
            Image.fromarray(np.rint(1000 * depths).astype(np.uint16)).save(root / "depth" / split / f"{i}.png")
    return root


TASKS: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "classify": (make_folder, FAST),
    "detect": (make_objects, [*FAST_DETECT, *FINDING]),
    "segment": (make_scenes, [*FAST_SEGMENT, "--ignore-index", "9"]),
    "depth": (make_depths, FAST_SEGMENT),
}
"""Maker of small data for each task, and options that make its training quick."""

TrainedOnce = Callable[[str], tuple[Path, Path]]
"""The kind of the fixture `trained_once`."""


_draw, _lay_out = Figure.savefig, Figure.tight_layout


@contextmanager
def charts_drawn() -> Iterator[None]:
    """Charts are drawn, which tests otherwise leave out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _draw)
        patch.setattr(Figure, "tight_layout", _lay_out)
        yield


def copied(run: Path, place: Path) -> Path:
    """A run for a test to change."""
    shutil.copytree(run, place)
    return place


def names_in(folder: Path) -> set[str]:
    """Files in a folder and those below, by their paths within it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def rows_of(table: Path) -> list[dict[str, str]]:
    """A CSV file's rows, by its first line's names."""
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def change_column(shards: Path, column: str, change: Callable[[Any], Any]) -> None:
    """Write the index of shards with another value in a column's first row."""
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(shards / "shards.parquet")
    values = table.column(column).to_pylist()
    values[0] = change(values[0])
    place = table.column_names.index(column)
    parquet.write_table(table.set_column(place, column, pyarrow.array(values)), shards / "shards.parquet")


def evaluated(capsys: pytest.CaptureFixture, *arguments: object) -> dict[str, Any]:
    """What `convnext evaluate --json` prints."""
    capsys.readouterr()
    assert cli.main(["evaluate", *map(str, arguments), "--workers", "0", "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def fails(capsys: pytest.CaptureFixture, *argv: object) -> str:
    """The one line on stderr of a command that must exit with status 2."""
    capsys.readouterr()
    try:
        status = cli.main([str(arg) for arg in argv])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert status == 2, captured
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


def wait_for_rows(process: subprocess.Popen, run: Path, count: int, seconds: float = 400) -> None:
    """Until a run that another process writes has so many epochs."""
    end = time.monotonic() + seconds
    while len(Run(run).rows()) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def make_video(path: Path, seconds: int, *, codec: str = "mpeg4") -> None:
    """Ten frames a second, each a shade: twice its number."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 12
        for number in range(10 * seconds):
            pixels = np.full((48, 64, 3), 2 * number, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
