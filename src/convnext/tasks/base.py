"""The interface of a task to the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from convnext.reports.sheet import PictureGroup
from convnext.runs.directory import Run
from convnext.runtime import distributed


class TrainLoader(Protocol):
    """Batches of one epoch, the same ones whenever that epoch is set."""

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def close(self) -> None: ...


class Moment(NamedTuple):
    """When in a training a step is taken."""

    done: float
    """Share of the learning rate's schedule that lies behind it, from 0 to 1."""
    passes: float
    """Passes over the training images that lie behind it."""
    draws: torch.Generator
    """Draws the same numbers in every process."""


class Task(ABC):
    """One kind of training."""

    score: str | None = None
    """Metric by which the best evaluated epoch is told, higher being better; None where there is none."""

    config: Any
    """The whole configuration, a `TrainConfig`."""

    train: Any
    """Training images: their number is its length, `sources` their files."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the training data (`data.fingerprint`): a run is resumed on the same data alone."""

    @abstractmethod
    def build_model(self) -> Any:
        """The network, with its first weights: an `nn.Module` that knows its encoder's `depths`."""

    def compile(self, network: Any) -> Any:
        """The network, or a part of it, by `torch.compile`: what `loss` is then given."""
        return torch.compile(network)

    @abstractmethod
    def train_loader(self) -> TrainLoader:
        """The training batches."""

    def loader_options(self) -> dict[str, Any]:
        """Arguments of training loaders that do not depend on the task, for this process's share of each batch."""
        config = self.config
        return {
            "batch_size": config.batch_size,
            "workers": config.workers,
            "seed": config.seed,
            "rank": distributed.rank(),
            "processes": distributed.count(),
        }

    @abstractmethod
    def parts(self, batch: Any, device: torch.device, moment: Moment) -> Iterable[tuple[int, Any]]:
        """Cut a batch into `config.accumulate` parts on the device, each with its number of images."""

    inputs: Callable[[Any], list[Tensor]] | None = None
    """Gives the tensors of a part; None where their shapes differ from step to step, or `loss` waits for a GPU."""

    @abstractmethod
    def loss(self, model: Any, part: Any) -> Tensor:
        """Mean loss over a part's images."""

    def advice(self) -> str | None:
        """In a line, what would give a better model than the configuration; None where nothing is known."""
        return None

    def extra(self, model: Any) -> nn.Module | None:
        """Modules beside the network `model` that `loss` or `after_step` use, such as a momentum encoder or a queue.

        Checkpoints keep their state, and a resumed run has it again; they are neither trained nor averaged, nor stored
        with the weights. None where there are none.
        """
        return None

    def after_step(self, model: Any, step: int, steps: int) -> None:  # noqa: B027 # most need none
        """Called once after each step of the optimizer, the `step`-th of all `steps` of the run, counted from 1."""

    def before_training(self, run: Run) -> None:  # noqa: B027 # most need none
        """Called once before the first step of a new run, in the first process alone: what is to be said of the data,
        and kept in the run."""

    def first_look(self, part: Any) -> Sequence[PictureGroup]:
        """Pictures, with labels, of a part of the first batch as `loss` gets it, and of images that are measured."""
        return ()

    def measured(self) -> float:
        """Ratio of the images that `evaluate` measures to the training images."""
        return 0.0

    def unreadable(self, batch: Any) -> list[tuple[str, str]]:
        """Images of the batch that could not be read, each with the reason."""
        sources = self.train.sources
        return [(sources[index], reason) for index, reason in batch.unreadable]

    def sources(self, batch: Any) -> list[str]:
        """Sources of the batch's images."""
        sources = self.train.sources
        return [sources[int(index)] for index in batch.indices]

    @abstractmethod
    def evaluate(self, model: nn.Module, device: torch.device, run: Run, epoch: int, *, last: bool) -> dict[str, float]:
        """Metrics after `epoch` epochs, the `last` one or not; may add files to the run."""

    @abstractmethod
    def meta(self) -> dict[str, Any]:
        """Metadata stored with the weights, for everything after."""

    @abstractmethod
    def finish(self, run: Run, device: torch.device, model: nn.Module) -> dict[str, float]:
        """After training: the run's final metrics, and its files for people."""
