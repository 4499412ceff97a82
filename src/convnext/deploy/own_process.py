"""Measuring in a process of its own, which has a memory and a loading time of its own: `python -m PROGRAM FOLDER`.

Imports nothing at its top that starts threads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convnext.errors import InputError
from convnext.printing import complain, to_json

JOB, FOUND = "job.json", "found.json"
"""Files of a job's folder: what is to be measured, and what was."""


def run_apart(program: str, job: Any, folder: Path, threads: int) -> dict[str, Any]:
    """Measure a job, a named tuple, by a program that ends in `answer_job`; returns the values that it measured.

    Raises:
        InputError: the program failed: the last line of its stderr, or how it ended.
    """
    (folder / JOB).write_text(json.dumps({**job._asdict(), "threads": threads}))
    reading, writing = os.pipe()  # by whose end the program knows that this process has ended, in whatever way
    try:
        done = subprocess.run(
            [sys.executable, "-m", program, str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdin=reading,
            capture_output=True,
            text=True,
            errors="replace",
        )
    finally:
        os.close(reading)
        os.close(writing)
    if done.returncode == -9:
        raise InputError("its process was ended by signal 9, as the system ends those it has no memory for")
    if done.returncode < 0:
        raise InputError(f"its process was ended by signal {-done.returncode}")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"its process ended with status {done.returncode}"]
        raise InputError(lines[-1].removeprefix("convnext: "))
    return json.loads((folder / FOUND).read_text())


def answer_job(kind: Callable[..., Any], measure: Callable[[Any, Path], dict[str, Any]]) -> None:
    """Measure the job in the folder that this program was given, on as many cores as it has threads.

    Exits with status 2 and a line on stderr where it cannot be measured. The program ends when its standard input does,
    since nobody waits for it any more.

    Args:
        kind: makes the job of its values.
        measure: takes the job and its folder, and gives values by name.
    """
    threading.Thread(target=_end_with_input, daemon=True).start()
    folder = Path(sys.argv[1])
    job = kind(**json.loads((folder / JOB).read_text()))
    if hasattr(os, "sched_setaffinity"):  # every engine counts these, whatever its own option is called
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    try:
        found = measure(job, folder)
    except InputError as error:
        complain(error)
        sys.exit(2)
    (folder / FOUND).write_text(to_json(found))


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
