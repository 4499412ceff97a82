"""Does `--batch-size auto` fit, and is it at least half of what fits? Runs in memory limited at random.

    python benchmarks/batch_size.py IMAGES --tries 20        # as root: limits are control groups' (version 1 or 2)

Each try trains for some steps with the batch found, and then with 2.2 times as many images, which should not fit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
GIB = 2**30


class Limited:
    """A control group with so many bytes, without swap."""

    def __init__(self, limit: int) -> None:
        first = (GROUPS / "memory").is_dir()
        self.folder = (GROUPS / "memory" if first else GROUPS) / f"convnext-{os.getpid()}"
        self.folder.mkdir(exist_ok=True)
        (self.folder / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(limit))

    def __enter__(self) -> Limited:
        return self

    def __exit__(self, *error: object) -> None:
        # A run that was killed leaves loading processes.
        while members := (self.folder / "cgroup.procs").read_text().split():
            for member in members:
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(int(member), signal.SIGKILL)
            time.sleep(0.1)
        self.folder.rmdir()

    def run(self, command: list[str]) -> subprocess.CompletedProcess:
        """Run a command inside."""
        inside = self.folder / "cgroup.procs"
        return subprocess.run(
            command, preexec_fn=lambda: inside.write_text(str(os.getpid())), capture_output=True, text=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    fits = halves = 0
    for number in range(1, args.tries + 1):
        limit = int(random.uniform(1.3, 3) * GIB)
        size, workers = random.choice([64, 128, 224]), random.choice([0, 2])
        with tempfile.TemporaryDirectory() as folder, Limited(limit) as group:
            command = [sys.executable, "-m", "convnext", "train", "classify", str(args.images), "--image-size"]
            command += [str(size), "--workers", str(workers), "--hours", "0.003", "--device", "cpu"]
            done = group.run([*command, "--batch-size", "auto", "--out", f"{folder}/run"])
            fits += done.returncode == 0
            config = Path(folder) / "run" / "config.json"
            batch = json.loads(config.read_text())["batch_size"] if config.is_file() else 0
            more = str(int(2.2 * batch) // 2 * 2)
            twice = batch and group.run([*command, "--batch-size", more, "--out", f"{folder}/twice"]).returncode
            halves += bool(twice)
            said = done.stderr.strip().splitlines()[-1:] if done.returncode else ""
            print(
                f"{number:3}  {limit / GIB:.2f} GiB, {size} pixels, {workers} workers: batch {batch} ended with "
                f"{done.returncode}, {more} with {twice}  {said}",
                flush=True,
            )
    print(f"{fits} of {args.tries} fit; of {halves}, 2.2 times as many images do not")


if __name__ == "__main__":
    main()
