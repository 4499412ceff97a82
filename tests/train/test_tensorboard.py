"""Event files, as TensorBoard reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from convnext.train.tensorboard import Scalars


def written(folder: Path, step: int, points: range) -> None:
    """A curve of a run that was taken up after `step`, and trained for some steps more."""
    scalars = Scalars(folder, step)
    for at in points:
        scalars.add({"loss": at / 10}, at)
    scalars.close()


@pytest.mark.parametrize("resumed", [3, 0])
def test_a_resumed_run_replaces_what_came_after_its_checkpoint(resumed: int, tmp_path: Path) -> None:
    """One that begins again replaces nothing: its folder is another, or was emptied."""
    written(tmp_path, 0, range(1, 6))
    written(tmp_path, resumed, range(resumed + 1, 8))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    kept = list(range(1, resumed + 1)) if resumed else [1, 2, 3, 4, 5]
    assert [event.step for event in events.Scalars("loss")] == [*kept, *range(resumed + 1, 8)]
