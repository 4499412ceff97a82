"""Time and memory of reading large annotations: YOLO's label files, and one COCO JSON, beside pycocotools; and of
packing the second, and reading what is packed.

    python benchmarks/read_annotations.py [--images 100000] [--json FILE]

Each reading is a process of its own, on files that were just written (and so are in memory). Images are links to one
small JPEG, so that what is measured is the annotations, and for YOLO the images' headers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from tables import Column, Row

SIDE = 640
OBJECTS = 8
LINKS = 30_000
"""Links to one file: file systems have a limit."""
COLUMNS: list[Column] = [
    {"name": "read", "head": ""},
    {"name": "objects", "thousands": True},
    {"name": "seconds", "digits": 1},
    {"name": "memory, MB", "thousands": True},
]


def write(root: Path, count: int) -> None:
    """So many images with `OBJECTS` each, as YOLO's files and as one COCO JSON with polygons of 20 points."""
    for folder in ("images", "labels"):
        (root / "yolo" / folder).mkdir(parents=True)
    (root / "yolo" / "data.yaml").write_text("train: images\nnames: [a, b]\n")
    (root / "coco").mkdir()
    line = "0 0.512345 0.498765 0.250000 0.125000\n"
    images, annotations = [], []
    for n in range(count):
        name = f"{n:06}.jpg"
        if n % LINKS == 0:
            first = root / "yolo" / "images" / name
            Image.new("RGB", (SIDE, SIDE)).save(first)
        else:
            os.link(first, root / "yolo" / "images" / name)
        (root / "yolo" / "labels" / f"{n:06}.txt").write_text(line * OBJECTS)
        images.append({"id": n, "file_name": name, "width": SIDE, "height": SIDE})
        for each in range(OBJECTS):
            points = [round(100 + each + 0.37 * k, 2) for k in range(40)]
            row = {"id": len(annotations), "image_id": n, "category_id": 1, "bbox": [100 + each, 100, 15.2, 15.2]}
            annotations.append({**row, "area": 231.04, "iscrowd": 0, "segmentation": [points]})
    (root / "coco" / "images").symlink_to(root / "yolo" / "images")
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (root / "coco" / "all.json").write_text(json.dumps(content))


def ours(path: str) -> int:
    from convnext.data.sources.detection import read_annotated

    return sum(len(image.annotations) for part in read_annotated(path).parts.values() for image in part.images)


def packing(path: str) -> int:
    from convnext.data.shards.pack_objects import pack_objects

    shards, _ = pack_objects(path, Path(f"{path}-packed"), shard_bytes=256 * 2**20)
    return sum(len(shard.rows) for shard in shards) * OBJECTS


def pycocotools(path: str) -> int:
    from pycocotools.coco import COCO

    return len(COCO(f"{path}/all.json").anns)


def measured(read: Callable[[str], int], path: Path) -> tuple[int, float, float]:
    """Objects, seconds, and the most memory that the process took, in MB."""
    begin = time.perf_counter()
    count = read(str(path))
    seconds = time.perf_counter() - begin
    status = Path("/proc/self/status").read_text()
    return count, seconds, int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def main() -> None:
    from timing import say, write_result  # PyTorch comes with it, whose memory would be that of every reading process

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    count: int = args.images
    spawn = multiprocessing.get_context("spawn")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, count)
        size = (root / "coco" / "all.json").stat().st_size / 10**6
        for name, read, path in (
            (f"{count:,} YOLO label files", ours, root / "yolo"),
            (f"COCO, {size:.0f} MB", ours, root / "coco"),
            (f"COCO, {size:.0f} MB, pycocotools", pycocotools, root / "coco"),
            ("packing it", packing, root / "coco"),
            ("reading it packed", ours, root / "coco-packed"),
        ):
            with ProcessPoolExecutor(1, spawn) as own:
                objects, seconds, memory = own.submit(measured, read, path).result()
            rows.append([name, objects, round(seconds, 1), round(memory)])
            print(rows[-1], flush=True)
    say(COLUMNS, rows)
    if args.json:
        note = f"{OBJECTS} objects an image, with polygons of 20 points in COCO; one run, on one core."
        title = "Reading large annotations, beside pycocotools"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, note=note)


if __name__ == "__main__":
    main()
