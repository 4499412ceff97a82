"""Training images that cannot be read: each is listed once, also by a run that is resumed, until they are too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from convnext import InputError
from convnext.runs.directory import Run
from convnext.train.unreadable import Unreadable

BAD = {f"{name}.png": f"{name}.png: truncated" for name in "abc"}


def listing(run: Run) -> list[str]:
    return run.unreadable.read_text().splitlines()


def test_each_is_listed_once(tmp_path: Path) -> None:
    unreadable = Unreadable(Run(tmp_path), images=10, most=0.3)
    unreadable.note([("a.png", BAD["a.png"])])
    unreadable.note([("a.png", BAD["a.png"]), ("b.png", BAD["b.png"])])
    assert unreadable.share() == {name: BAD[name] for name in ("a.png", "b.png")}
    unreadable.note([("b.png", BAD["b.png"]), ("c.png", BAD["c.png"])])
    assert listing(Run(tmp_path)) == list(BAD.values())


def test_a_resumed_run_forgets_what_its_checkpoint_does_not_know(tmp_path: Path) -> None:
    """Those will be met again."""
    run = Run(tmp_path)
    Unreadable(run, images=10, most=0.3).note(BAD.items())
    resumed = Unreadable(run, images=10, most=0.3)
    resumed.restore({"a.png": BAD["a.png"]})
    assert listing(run) == [BAD["a.png"]]
    resumed.note(BAD.items())
    assert listing(run) == list(BAD.values())


def test_too_many_end_the_run(tmp_path: Path) -> None:
    unreadable = Unreadable(Run(tmp_path), images=10, most=0.2)
    unreadable.note(list(BAD.items())[:2])
    unreadable.share()
    with pytest.raises(InputError, match=r"^3 of 10 training images .* more than --max-unreadable 0\.2"):
        unreadable.note(BAD.items())
