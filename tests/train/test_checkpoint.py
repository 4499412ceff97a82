"""What a checkpoint's `state.json` must hold to be taken up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convnext.errors import InputError
from convnext.train.checkpoint import STATE, checkpoints, read_checkpoint_state

WHOLE: dict[str, Any] = {
    "epoch": 1,
    "step": 3,
    "losses": 0.5,
    "counted": 0,
    "best_score": float("-inf"),
    "nonfinite_in_a_row": 0,
    "scaler": {},
    "unreadable": {"a.png": "a.png: truncated"},
    "data": {"images": 3, "classes": ["x", "y"], "digest": "ab"},
    "files": {},
}
LATER = ("data", "files")  # which checkpoints of earlier releases lack
WRONG = {
    "no images in the fingerprint": {"data": {"classes": [], "digest": "ab"}},
    "classes that are no names": {"data": {"images": 3, "classes": [["x"]], "digest": "ab"}},
    "a fingerprint that is a list": {"data": []},
    "files that are a list": {"files": []},
    "an epoch that is a text": {"epoch": "1"},
    "seconds that are a text": {"spent": "1"},
    "a reason that is a number": {"unreadable": {"a.png": 1}},
}


def read(folder: Path, state: Any) -> dict[str, Any]:
    (folder / STATE).write_text(json.dumps(state))
    return read_checkpoint_state(folder)


def test_a_state_with_or_without_what_came_later_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == WHOLE
    before = {key: value for key, value in WHOLE.items() if key not in LATER}
    assert read(tmp_path, before) == before


@pytest.mark.parametrize("name", WRONG)
def test_a_state_of_other_types_is_refused(name: str, tmp_path: Path) -> None:
    """Without a checksum, as states of before are, and one that was taken out."""
    with pytest.raises(InputError, match="lacks what it should hold"):
        read(tmp_path, WHOLE | WRONG[name])


@pytest.mark.parametrize("key", [key for key in WHOLE if key not in LATER])
def test_a_state_that_lacks_something_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks what it should hold"):
        read(tmp_path, {name: value for name, value in WHOLE.items() if name != key})


def test_a_state_whose_checksum_has_lost_its_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has changed since it was written"):
        read(tmp_path, WHOLE | {"spent": 1.5, "cHecksum": 7})


def test_a_program_that_is_interrupted_while_it_saves_ends(tmp_path: Path) -> None:
    program = """
import signal, sys, threading
from pathlib import Path
import torch
from convnext.train.checkpoint import Checkpoints

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background
start = threading.Thread.start

def interrupted(thread):
    start(thread)
    signal.raise_signal(signal.SIGINT)

threading.Thread.start = interrupted
Checkpoints(Path(sys.argv[1]), 1).save(1, 3, {"a": torch.ones(3)}, {})
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "KeyboardInterrupt" in ended.stderr
    assert [path.name for path in checkpoints(tmp_path)] == ["epoch-00001-step-0000000003"]
