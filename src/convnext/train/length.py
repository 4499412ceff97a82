"""How long a training goes on: for so many epochs, or for so many hours, as measured."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from convnext.runtime import distributed

LONGEST_STEP = 10.0
"""Times the fastest step: a step that takes longer is one in which something else was done, such as compiling."""
MEASURING = 0.5
"""Guess of the time in which an image is measured, over that of a training step on it."""
MOST_MEASURING = 0.05
"""Largest share of the training time that measuring in between takes, but for the first time."""
REPORT = 0.7
"""Guess of the time that a report takes without measuring, over that from a command's start to its first step."""


class Epochs:
    """A training of `epochs` passes, each of `epoch_steps` steps."""

    def __init__(self, epochs: int, epoch_steps: int) -> None:
        self.epochs, self.epoch_steps = epochs, epoch_steps
        self.step = 0

    @property
    def position(self) -> float:
        """How much of the schedule is done, in its epochs."""
        return self.step / self.epoch_steps

    @property
    def is_over(self) -> bool:
        """Whether the last step is done."""
        return self.position >= self.epochs

    @property
    def steps(self) -> int:
        """Steps of the whole training, as far as that is known."""
        return self.epochs * self.epoch_steps

    def begin(self) -> None:
        """The next step is begun now; before it, things were built."""

    def advance(self) -> None:
        """A step is done."""
        self.step += 1

    def may_measure(self) -> bool:
        """Whether there is time to measure the network now."""
        return True

    def note_measuring(self, seconds: float) -> None:
        """Measuring the network took so long."""

    def left(self) -> float | None:
        """Seconds to the end, where that is known."""
        return None

    def state(self) -> dict[str, float]:
        """State to resume from."""
        return {}

    def restore(self, step: int, state: dict[str, Any]) -> None:
        """Go on from the `step`-th step and a state."""
        self.step = step


class Hours(Epochs):
    """A training that takes `hours`, over which the schedule of `epochs` is stretched.

    After each step, the schedule goes on by the step's share of the time that was left before it: it is at its end when
    the time is over, also where steps become slower or faster, as with larger images. Measuring and writing the report
    are part of the time, by how long measuring took before.

    Args:
        hours: from `began` to the end of the report.
        epochs: what the schedule is written for.
        epoch_steps: steps of a pass over the images.
        measured: images that are measured, for each training image.
        began: when the hours began, by `time.monotonic`.
    """

    def __init__(self, hours: float, epochs: int, epoch_steps: int, *, measured: float, began: float) -> None:
        super().__init__(epochs, epoch_steps)
        self.seconds, self.measured, self.began = 3600 * hours, measured, began
        self.share = 0.0
        self.spent = 0.0  # before `began`, by the runs that this one goes on from
        self.report = 0.0  # and those that are left for the report
        self.last_measuring: float | None = None
        self.trained = 0.0  # seconds of steps since then
        self.fastest = math.inf  # seconds of a step, but the first, in which much is built
        self.before: float | None = None  # when the step before was done, or measuring after it

    @property
    def position(self) -> float:
        return self.share * self.epochs

    @property
    def steps(self) -> int:
        return max(self.step, round(self.step / self.share)) if self.share else super().steps

    def elapsed(self) -> float:
        """Seconds until now, without those between a stop and a resume."""
        return self.spent + time.monotonic() - self.began

    def left(self) -> float:
        return max(0.0, self.seconds - self.elapsed())

    def begin(self) -> None:
        own = time.monotonic() - self.began
        self.report = REPORT * own
        if self.step:  # a resumed run's first step counts as it would have
            self.before = self.elapsed()

    def advance(self) -> None:
        super().advance()
        elapsed = self.elapsed()
        took = 0.0 if self.before is None else max(elapsed - self.before, 1e-9)
        if took:
            self.fastest = min(self.fastest, took)
            self.trained += took
        self.before = elapsed
        measuring = self.last_measuring
        if measuring is None:
            known = self.fastest if self.fastest < math.inf else 0.0
            measuring = MEASURING * self.measured * self.epoch_steps * known
        left = self.seconds - elapsed - 2 * measuring - self.report  # it is measured once more for the report
        counted = min(took, LONGEST_STEP * self.fastest) if took else 0.0
        portion = counted / (left + counted) if left > 0 else 1.0
        portion = float(distributed.all_sum(torch.tensor(portion, device="cpu"))) / distributed.count()
        self.share = 1.0 if portion > 0.5 else self.share + (1 - self.share) * portion

    def may_measure(self) -> bool:
        """Whether the network was never measured, or so long ago that measuring takes no more than `MOST_MEASURING`."""
        due = self.last_measuring is None or self.trained * MOST_MEASURING >= self.last_measuring
        return distributed.total_count(int(due)) == distributed.count()

    def note_measuring(self, seconds: float) -> None:
        self.last_measuring, self.trained = seconds, 0.0
        if self.before is not None:
            self.before += seconds

    def state(self) -> dict[str, Any]:
        return {
            "share": self.share,
            "spent": self.elapsed(),
            "last_measuring": self.last_measuring,
            "trained": self.trained,
        }

    def restore(self, step: int, state: dict[str, Any]) -> None:
        super().restore(step, state)
        self.share, self.spent = state["share"], state["spent"]
        self.last_measuring, self.trained = state["last_measuring"], state.get("trained", 0.0)
