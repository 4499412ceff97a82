"""Common to segmentation and depth, whose targets are maps: a number for every pixel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from convnext.data.fingerprint import of_maps
from convnext.data.loading import Batch
from convnext.data.map_loading import WholeBatch, map_eval_loader
from convnext.tasks.base import Moment
from convnext.tasks.evaluate import Evaluator
from convnext.tasks.supervised import SupervisedTask, split_batch


class MapTask(SupervisedTask):
    """Trains on square crops of images and of their maps."""

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the training images and their maps."""
        return of_maps(self.config.data, self.train)

    def parts(self, batch: Batch, device: torch.device, moment: Moment) -> Iterable[tuple[int, tuple[Tensor, ...]]]:
        """A batch in `config.accumulate` parts on the device."""
        images, maps = batch.on(device), batch.targets.to(device, non_blocking=True)
        return split_batch([images, maps], self.config.accumulate)

    def inputs(self, part: tuple[Tensor, ...]) -> list[Tensor]:
        """Crops and their maps."""
        return list(part)


class MapEvaluator(Evaluator):
    """Measures on whole images, one by one: they have sizes of their own."""

    def batches(
        self, predictor: Any, part: Any, *, batch_size: int, workers: int, rank: int = 0, count: int = 1
    ) -> Iterable[WholeBatch]:
        return map_eval_loader(part, predictor.transform, batch_size=1, workers=workers, rank=rank, processes=count)

    def counts(self, answers: Any, part: Any) -> dict[str, int]:
        """Number of images measured, and of those that could not be: unreadable, or without any known pixel."""
        measured = len(answers.images)
        return {"images": measured, **({"unmeasured": len(part) - measured} if measured < len(part) else {})}
