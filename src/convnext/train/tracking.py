"""Curves of a run for other programs: TensorBoard always, and the tracker that `--track` names."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from convnext.errors import InputError
from convnext.runs.directory import Run
from convnext.runtime import distributed
from convnext.train.mlflow import Mlflow
from convnext.train.tensorboard import Scalars
from convnext.train.wandb import Wandb

log = logging.getLogger("convnext")


def require_tracker(name: str) -> None:
    """`InputError` where the library of the tracker called `name` is not installed."""
    if name == "none":
        return
    found = find_spec(name)
    if found is None or found.origin is None:  # a folder is found too, and wandb leaves one of its name where it runs
        raise InputError(f"--track {name} needs pip install 'convnext[track]'")


def open_tracker(name: str, run: Run) -> Wandb | Mlflow | None:
    """The tracker called `name`, going on in the tracked run of `run`, if there is one. `InputError` if it cannot."""
    if name == "none":
        return None
    return Wandb(run) if name == "wandb" else Mlflow(run)


class Curves:
    """The curves of a run that begins, or is taken up, after `step`. Only the first process writes them."""

    def __init__(self, run: Run, step: int, track: str) -> None:
        first = distributed.rank() == 0
        self.step, self.ended = step, False
        self.scalars = Scalars(run.path / "tensorboard", step) if first else None
        self.tracker = None
        try:
            self.tracker = open_tracker(track, run) if first else None
        except BaseException:  # an interruption too leaves no event file open
            self.close()
            raise

    def add(self, values: dict[str, float], step: int) -> None:
        """Points of several curves. `InputError` if the disk is full; a tracker that fails is left, with a line."""
        self.step = step
        if self.scalars is not None:
            self.scalars.add(values, step)
        self.track(values, step)

    def end(self, metrics: dict[str, float]) -> dict[str, float]:
        """The training has ended: track its final metrics, `final/` before each. Returns them as they are."""
        self.track({f"final/{name}": value for name, value in metrics.items()}, self.step)
        self.ended = True
        return metrics

    def track(self, values: dict[str, float], step: int) -> None:
        """Points for the tracker alone."""
        try:
            if self.tracker is not None:
                self.tracker.add(values, step)
        except Exception as error:  # of a network or another's program, for which no training ends
            self.tracker = None
            log.warning("the run is tracked no longer: %s", str(error).partition("\n")[0])

    def close(self) -> None:
        """No more will come."""
        if self.scalars is not None:
            self.scalars.close()
        try:
            if self.tracker is not None:
                self.tracker.close(ended=self.ended)
        except Exception as error:  # as above: the run itself is whole
            log.warning("the tracker did not end well: %s", str(error).partition("\n")[0])
