"""What the training loop asks of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from convnext.config import TrainConfig
from convnext.runs.directory import Run


class TrainLoader(Protocol):
    """Batches of one epoch, the same ones whenever that epoch is set."""

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class Task(Protocol):
    """One kind of training."""

    @property
    def score(self) -> str | None:
        """The metric by which the best evaluated epoch is told, higher being better; None where there is none."""

    @property
    def config(self) -> TrainConfig:
        """The whole configuration."""

    @property
    def train_size(self) -> int:
        """The number of training images."""

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the training data (`data.fingerprint`): a run is resumed on the same data alone."""

    def build_model(self) -> Any:
        """The network, with its first weights: an `nn.Module` that knows its encoder's `depths`."""

    def compile(self, network: Any) -> Any:
        """The network, or a part of it, by `torch.compile`: what `loss` is then given."""

    def train_loader(self) -> TrainLoader:
        """The training batches."""

    def parts(self, batch: Any, device: torch.device, shared: torch.Generator) -> Iterable[tuple[int, Any]]:
        """Cut a batch into `config.accumulate` parts on the device, each with its number of images.

        `shared` draws the same numbers in every process.
        """

    @property
    def inputs(self) -> Callable[[Any], list[Tensor]] | None:
        """Gives the tensors of a part; None where their shapes differ from step to step, or `loss` waits for a GPU."""

    def loss(self, model: Any, part: Any) -> Tensor:
        """Mean loss over a part's images."""

    def unreadable(self, batch: Any) -> list[tuple[str, str]]:
        """Images of the batch that could not be read, each with the reason."""

    def sources(self, batch: Any) -> list[str]:
        """Where the batch's images come from."""

    def evaluate(self, model: nn.Module, device: torch.device, run: Run, epoch: int) -> dict[str, float]:
        """Metrics after `epoch` epochs; may add files to the run."""

    def meta(self) -> dict[str, Any]:
        """What is stored with the weights, for everything after."""

    def finish(self, run: Run, device: torch.device, model: nn.Module) -> dict[str, float]:
        """After training: the run's final metrics, and its files for people."""
