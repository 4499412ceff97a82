"""Planted faults that `convnext check --labels` finds.

    python benchmarks/wrong_labels.py DATA --work FOLDER [--arms digits imagenette nuclei coco100 camvid]
        [--with ARM=SOURCE ...] [--json FILE]

DATA holds imagenette/, nuclei/, coco100/ and camvid/. Of images, 60 labels are flipped at random, of scikit-learn's
digits and of the first 300 images of each class of Imagenette; of objects and regions, 20 are made wrong
(`plant_faults.py`). Suspects are those of the command, worst first; without a source, classifiers are trained by it.
Objects and regions need a run that was trained on the planted data, which lie in FOLDER after the first call.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from plant_faults import Box, Planted, flip_labels, plant_objects, plant_regions, write_table
from sklearn.datasets import load_digits
from tables import Column
from timing import write_result

from convnext.data.sources.image_files import find_images

FLIPPED, PLANTED, SEED = 60, 20, 0
FIRST = {"digits": 75, "imagenette": 90}
"""Suspects that are looked at, of images."""
LEAST_REGION = 0.002
"""Share of an image that a wrong region has at least."""
COLUMNS: list[Column] = [
    {"name": "data"},
    {"name": "wrong"},
    {"name": "looked at"},
    {"name": "found"},
    {"name": "all suspects", "thousands": True},
    {"name": "found among all"},
]


def write_digits(work: Path) -> list[tuple[str, str]]:
    """Paths and labels of scikit-learn's digits as files."""
    pixels, labels = load_digits(return_X_y=True)
    rows = []
    for place, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = work / "digits" / f"{place:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.reshape(8, 8) * 15.9375).astype(np.uint8)).save(path)
        rows.append((str(path), str(label)))
    return rows


def first_of_each_class(folder: Path, count: int) -> list[tuple[str, str]]:
    return [(str(p), c.name) for c in sorted(folder.iterdir()) for p in sorted(find_images(c))[:count]]


def suspects(data: Path, out: Path, kind: str, *options: object) -> list[dict[str, str]]:
    """Rows of `problems.csv`, worst first."""
    command = ["check", data, "--labels", "--workers", 0, "--out", out, *options]
    done = subprocess.run([Path(sys.executable).with_name("convnext"), *map(str, command)], check=False)
    if done.returncode not in (0, 1):  # 1 says that the data have other problems too
        raise SystemExit(done.returncode)
    return read_suspects(out, kind)


def read_suspects(out: Path, kind: str) -> list[dict[str, str]]:
    """Rows of the `problems.csv` of a check, worst first."""
    with open(out / "problems.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["kind"] == kind]


def of_images(
    name: str, rows: Sequence[tuple[str, str]], first: int, work: Path, options: Sequence[object]
) -> list[Any]:
    """The table row of images of which some labels are flipped."""
    labels, flipped = flip_labels([label for _, label in rows], FLIPPED, SEED)
    table = work / f"{name}.csv"
    write_table(table, [(path, label, "train") for (path, _), label in zip(rows, labels, strict=True)])
    wrong = {Path(rows[place][0]).name for place in flipped}
    hits = [Path(row["path"]).name in wrong for row in suspects(table, work / f"{name}-check", "label", *options)]
    return [name, FLIPPED, first, sum(hits[:first]), len(hits), sum(hits)]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    both = width * height
    return both / (sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - both)


def of_boxes(name: str, kind: str, planted: Sequence[Planted], least: float, work: Path, source: str) -> list[Any]:
    """A fault counts once, at the first suspect of its image whose box overlaps one of its boxes by `least`."""
    task = {"object": "detect", "region": "segment"}[kind]
    rows = suspects(work / name, work / f"{name}-check", kind, "--with", source, "--task", task)
    left, hits = list(planted), []
    for row in rows:
        box, stem = tuple(float(value) for value in row["box"].split()), Path(row["path"]).stem
        own = [fault for fault in left if Path(fault.key).stem == stem]
        near = [fault for fault in own if max(overlap(each, box) for each in fault.boxes) >= least]
        hits.append(bool(near))
        if near:
            left.remove(near[0])
    print(name, "not found:", [f"{f.kind} {f.key}" for f in left])
    return [name, PLANTED, 60, sum(hits[:60]), len(hits), sum(hits)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=["digits", "imagenette"], help="data sets")
    parser.add_argument(
        "--with", dest="sources", nargs="*", default=[], metavar="ARM=SOURCE", help="weights that answer"
    )
    parser.add_argument("--note", default="", help="of how the weights were made")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    sources = dict(pair.split("=", 1) for pair in args.sources)
    work: Path = args.work

    def images(name: str, rows: Callable[[], Sequence[tuple[str, str]]], first: int, *quick: object) -> list[Any]:
        return of_images(name, rows(), first, work, ["--with", sources[name]] if name in sources else quick)

    def boxes(name: str, kind: str, planted: Sequence[Planted], least: float) -> list[Any]:
        if name not in sources:
            raise SystemExit(f"{work / name} is planted: train on it, and give --with {name}=RUN")
        return of_boxes(name, kind, planted, least, work, sources[name])

    def objects(name: str) -> list[Any]:
        return boxes(name, "object", plant_objects(args.data / name, work / name, PLANTED, SEED), 0.5)

    def regions(name: str) -> list[Any]:
        how: dict[str, Any] = {"ignored": 11, "least": LEAST_REGION}
        return boxes(name, "region", plant_regions(args.data / name, work / name, PLANTED, SEED, **how), 0.3)

    photographs = partial(first_of_each_class, args.data / "imagenette" / "train", 300)
    arms: dict[str, Callable[[], list[Any]]] = {
        "digits": partial(images, "digits", partial(write_digits, work), FIRST["digits"], "--recipe", "digits"),
        "imagenette": partial(images, "imagenette", photographs, FIRST["imagenette"]),
        "nuclei": partial(objects, "nuclei"),
        "coco100": partial(objects, "coco100"),
        "camvid": partial(regions, "camvid"),
    }
    rows = []
    for name in args.arms:
        rows.append(arms[name]())
        print(rows[-1], flush=True)
    if args.json:
        title = "Planted faults found among the first suspects of `convnext check --labels`"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, seed=SEED, note=args.note)


if __name__ == "__main__":
    main()
