"""What tests share: small labelled folders, options for quick runs, the form of a failure, and waiting for a run."""

import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convnext import cli
from convnext.run import Run

COLOURS = {"blue": (30, 60, 220), "green": (40, 200, 60), "red": (220, 40, 30)}

FAST = ["--image-size", "32", "--epochs", "2", "--batch-size", "8", "--workers", "0"]
"""Options that make a training run of `folder` take a second or two."""


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
