"""Train on flipped labels, with and without the first suspects of `convnext check --labels`.

    python benchmarks/without_suspects.py DATA --work FOLDER [--arms digits imagenette] [--seeds 0 1 2]
        [--epochs N] [--image-size PIXELS] [--json FILE]

FOLDER is that of `wrong_labels.py`, which has found the suspects in it. Validation images have their true labels: of
the digits every fifth, which then are not trained on, of Imagenette those of val/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from plant_faults import flip_labels, write_table
from tables import Column, Row
from timing import say, write_result
from wrong_labels import FIRST, FLIPPED, SEED, first_of_each_class, read_suspects, write_digits

COLUMNS: list[Column] = [
    {"name": "data"},
    {"name": "seed"},
    {"name": "flipped, trained on"},
    {"name": "all: top-1", "digits": 2},
    {"name": "without suspects: top-1", "digits": 2},
    {"name": "left out"},
    {"name": "of these flipped"},
]


def top1(table: Path, out: Path, *options: object) -> float:
    """Accuracy of a new training, in percent."""
    command = [Path(sys.executable).with_name("convnext"), "train", "classify", table, "--out", out, *options]
    subprocess.run(list(map(str, command)), check=True)
    return json.loads((out / "result.json").read_text())["top1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=FIRST, default=list(FIRST))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="without, the recipe's")
    parser.add_argument("--image-size", type=int, help="without, the recipe's")
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    work: Path = args.work
    photographs: Path = args.data / "imagenette"
    rows: list[Row] = []
    for arm in args.arms:
        if arm == "digits":
            images, how = write_digits(work), ["--recipe", "digits"]
            held = images[::5]
        else:
            images, how = first_of_each_class(photographs / "train", 300), ["--recipe", "small_data"]
            held = first_of_each_class(photographs / "val", sys.maxsize)
        if args.epochs is not None:
            how += ["--epochs", str(args.epochs)]
        if args.image_size is not None:
            how += ["--image-size", str(args.image_size)]
        rows += with_and_without(arm, images, held, work, how, args.seeds)
        say(COLUMNS, rows)
    if args.json:
        title = "Training on flipped labels, with and without the first suspects of `convnext check --labels`"
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, seed=args.seeds, note="Recipes as they are.")


def with_and_without(
    arm: str,
    images: Sequence[tuple[str, str]],
    held: Sequence[tuple[str, str]],
    work: Path,
    how: Sequence[str],
    seeds: Sequence[int],
) -> list[Row]:
    """A row for each seed."""
    labels, flipped = flip_labels([label for _, label in images], FLIPPED, SEED)
    val = [(path, label, "val") for path, label in held]
    kept_out = {path for path, _ in held}
    train = {place: (path, labels[place], "train") for place, (path, _) in enumerate(images) if path not in kept_out}
    suspects = {Path(row["path"]).name for row in read_suspects(work / f"{arm}-check", "label")[: FIRST[arm]]}
    left_out = {place for place, (path, _, _) in train.items() if Path(path).name in suspects}
    tables = work / f"{arm}-all.csv", work / f"{arm}-without.csv"
    write_table(tables[0], [*train.values(), *val])
    write_table(tables[1], [*(row for place, row in train.items() if place not in left_out), *val])
    rows: list[Row] = []
    for seed in seeds:
        found = [top1(table, work / f"{table.stem}-{seed}", *how, "--seed", seed) for table in tables]
        rows.append([arm, seed, len(flipped & train.keys()), *found, len(left_out), len(flipped & left_out)])
    return rows


if __name__ == "__main__":
    main()
