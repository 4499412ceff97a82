"""Kill a training run at random moments, resume it each time, and compare with a run that nothing disturbed.

    python benchmarks/faults.py [--kills 25] [--terms 10] [--tasks classify pretrain detect segment]
        [--data folder shards] [--large 10000] [--seed 0] [--json FILE]

A run is the command itself, on small images made here, with a checkpoint every third step. SIGKILL comes after a random
time, and every third one while a checkpoint is being written; then the run goes on with `--resume auto`, and a random
number of workers, until it ends. If it ends before all kills are spent, the next one is begun. At each end, weights,
averaged weights, optimizer state, best weights and metrics must be those of the undisturbed run, bit by bit. SIGTERM
likewise; the run must then end by itself, without a traceback; also a run that measures 10,000 images after each epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from timing import say, write_result

from convnext.data.shards.pack import pack_shards

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from making import FAST_DETECT, FAST_SEGMENT, make_objects, make_scenes

COMMON = ["--epochs", "4", "--save-every", "3", "--device", "cpu", "--drop-path", "0.1", "--ema", "0.9"]
SMALL = ["--image-size", "32", "--stem-patch", "2", "--batch-size", "4"]
TASKS = {
    "classify": ["train", "classify", *SMALL, *COMMON, "--mixup", "0.2"],
    "pretrain": ["pretrain", *SMALL, *COMMON, "--patch-size", "16", "--decoder-dim", "64"],
    "detect": ["train", "detect", *FAST_DETECT, *COMMON],
    "segment": ["train", "segment", *FAST_SEGMENT, *COMMON, "--ignore-index", "9"],
}
TIMINGS = ("images_per_second", "seconds")
COLUMNS: list[dict] = [
    *({"name": name} for name in ("task", "signal", "sent", "while writing", "runs ended", "bit-identical")),
    {"name": "longest from signal to end, s", "digits": 1},
]


def make_images(folder: Path) -> Path:
    """36 images to train on and 12 to measure, of two classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 18), ("val", 6)):
        for name, level in (("dark", 60), ("light", 180)):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(level, 50, (40, 40, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def pack_images(images: Path, folder: Path) -> Path:
    """The same in shards of some ten images."""
    pack_shards(str(images), folder, shard_bytes=30_000)
    return folder


def start(task: str, data: Path, out: Path, *more: str) -> subprocess.Popen:
    """The command, which goes on where there is something to go on from."""
    workers = str(random.randrange(3))
    return subprocess.Popen(
        [sys.executable, "-m", "convnext", *TASKS[task], str(data), "--out", str(out), "--resume", "auto",
         "--workers", workers, *more],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> str:
    """Wait for its end; returns what it said."""
    error = process.communicate(timeout=600)[1]
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}:\n{error}")
    return error


def state(run: Path) -> dict[str, object]:
    """All that must be equal."""
    last = max(run.glob("checkpoints/epoch-*"))
    kept = json.loads((last / "state.json").read_text())
    for key in ("files", "checksum"):  # hashes of files that may hold the same tensors in another order, and of these
        kept.pop(key, None)
    found: dict[str, object] = {"last checkpoint": last.name, "state": kept}
    for path in [*last.glob("*.safetensors"), run / "model.safetensors", *run.glob("checkpoints/*.safetensors")]:
        found |= {f"{path.name}: {name}": tensor for name, tensor in load_file(path).items()}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]
    found["result"] = json.loads((run / "result.json").read_text())
    return found


def differences(a: dict[str, object], b: dict[str, object]) -> list[str]:
    """Names of what is not bit-identical."""

    def same(x: object, y: object) -> bool:
        return torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x == y

    return sorted(a.keys() ^ b.keys()) + [name for name in a.keys() & b.keys() if not same(a[name], b[name])]


def disturb(process: subprocess.Popen, run: Path, number: int, longest: float, while_writing: bool) -> bool:
    """Send a signal at a random moment, or while a checkpoint is being written; False if the run ended before."""
    until = time.monotonic() + random.uniform(0, longest)
    if while_writing:
        time.sleep(random.uniform(0, longest / 2))
        until = time.monotonic() + longest
        while not list(run.glob("checkpoints/.epoch-*")) and time.monotonic() < until and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.03))
        until = 0
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.001)
    if process.poll() is not None:
        return False
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)  # its loaders too, as a machine that goes down would
    else:
        process.send_signal(number)
    return True


def measure(task: str, kind: str, number: int, count: int, data: Path, scratch: Path) -> list:
    """Disturb runs of a task `count` times; returns a row of the table, or ends the program at a difference."""
    shutil.rmtree(scratch, ignore_errors=True)
    began = time.monotonic()
    finish(start(task, data, scratch / "whole"))
    longest = time.monotonic() - began
    expected = state(scratch / "whole")
    sent = runs = writing = 0
    ends: list[float] = []
    while sent < count:
        run = scratch / f"run{runs}"
        while True:
            process = start(task, data, run)
            if sent == count:
                finish(process)
                break
            while_writing = number == signal.SIGKILL and sent % 3 == 2
            if not disturb(process, run, number, longest, while_writing):
                finish(process)
                break
            asked = time.monotonic()
            error = process.communicate(timeout=120)[1]
            ends.append(time.monotonic() - asked)
            sent += 1
            writing += bool(list(run.glob("checkpoints/.epoch-*")))
            if "Traceback" in error and number != signal.SIGKILL:
                raise SystemExit(f"{task}: a traceback after signal {number}:\n{error}")
        runs += 1
        if wrong := differences(expected, state(run)):
            raise SystemExit(f"{task}: differs after signal {number}: {', '.join(wrong[:5])} ({len(wrong)} in all)")
        shutil.rmtree(run)
    name = signal.Signals(number).name
    slowest = max(ends) if number != signal.SIGKILL else None
    return [f"{task}, {kind}", name, sent, writing, runs, runs, slowest]


def measure_stops(count: int, images: Path, large: int, scratch: Path) -> list:
    """Stop a run with many validation images at moments spread over it, most of them while it measures or reports."""
    data, epochs = scratch / "large", ("--epochs", "1")
    shutil.copytree(images / "train", data / "train")
    for name in ("dark", "light"):
        (data / "val" / name).mkdir(parents=True)
        for number in range(large // 2):
            (data / "val" / name / f"{number}.png").symlink_to(images / "val" / name / f"{number % 6}.png")
    began = time.monotonic()
    finish(start("classify", data, scratch / "whole", *epochs))
    whole = time.monotonic() - began
    ends: list[float] = []
    for number in range(count):
        run = scratch / f"run{number}"
        process = start("classify", data, run, *epochs)
        time.sleep(whole * (number + 0.5) / count)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        error = process.communicate(timeout=120)[1]
        ends.append(time.monotonic() - asked)
        # Before a run is begun, and when all of it is written, there is nothing to save, and Python itself ends.
        itself = not run.exists() or (run / "README.md").is_file()
        if process.returncode not in (0, 128 + signal.SIGTERM, *([-signal.SIGTERM] if itself else [])):
            raise SystemExit(f"ended with {process.returncode}:\n{error}")
        if "Traceback" in error:
            raise SystemExit(f"ended with {process.returncode}:\n{error}")
        shutil.rmtree(run, ignore_errors=True)
    return [f"classify, {large} validation images, {whole:.0f} s", "SIGTERM", count, None, None, None, max(ends)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--data", nargs="+", default=["folder", "shards"], choices=["folder", "shards"])
    parser.add_argument("--large", type=int, default=10_000, help="validation images of a run that is stopped alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures and their origin too")
    args = parser.parse_args()
    random.seed(args.seed)
    rows: list[list] = []
    with tempfile.TemporaryDirectory() as folder:
        images = make_images(Path(folder) / "images")
        places = {
            ("classify", "folder"): images,
            ("pretrain", "folder"): images / "train",
            ("detect", "folder"): make_objects(Path(folder) / "objects", train=12),
            ("segment", "folder"): make_scenes(Path(folder) / "scenes", train=24),
        }
        if args.large:
            rows.append(measure_stops(max(args.terms, 4), images, args.large, Path(folder) / "stops"))
            say(COLUMNS, rows)
        shards = pack_images(images, Path(folder) / "shards")
        places |= {(task, "shards"): shards for task in ("classify", "pretrain")}
        for (task, kind), data in places.items():
            if task in args.tasks and kind in args.data:
                for number, count in ((signal.SIGKILL, args.kills), (signal.SIGTERM, args.terms)):
                    if count:
                        rows.append(measure(task, kind, number, count, data, Path(folder) / "runs"))
                        say(COLUMNS, rows)
    if args.json:
        title = "Runs that are killed and taken up again, compared with undisturbed ones bit by bit"
        note = "A difference would have ended the program."
        write_result(args.json, title=title, columns=COLUMNS, rows=rows, seed=args.seed, note=note)


if __name__ == "__main__":
    main()
