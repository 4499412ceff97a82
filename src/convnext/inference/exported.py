"""An exported model in the place of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convnext.errors import InputError
from convnext.inference.backends import open_engine
from convnext.storage.exports import sha256_of_weights

LEAST_SIDE = 2
"""Pixels: exporters fix what a side of 1 does."""


class ExportedNetwork(nn.Module):
    """An exported model, run by its engine and called like the network that it was made from.

    Args:
        path: the file.
        meta: what it says of itself.
        backend: its engine, as `open_engine` takes it.

    Raises:
        WeightsError: it cannot be run here.
        InputError: an engine that does not run such files.
    """

    digest: Tensor

    def __init__(self, path: Path, meta: dict[str, Any], backend: str) -> None:
        super().__init__()
        made = meta["export"]
        self.engine = open_engine(path, meta, backend)
        self.outputs, self.in_chans, self.most = made["outputs"], made["in_chans"], made["batch"][1]
        self.num_classes, self.num_features = made["num_classes"], made["num_features"]
        # Stands for the network's weights, by which work that was begun with another one is known.
        self.register_buffer("digest", torch.tensor(list(bytes.fromhex(sha256_of_weights(path))), dtype=torch.uint8))

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images `[N, C, H, W]` to all outputs by name. `InputError` for a shape that it does not take."""
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != self.in_chans or min(shape[2:]) < LEAST_SIDE:
            raise InputError(
                f"the exported model takes images [N, {self.in_chans}, H, W], H and W of {LEAST_SIDE} or more, not "
                f"{list(shape)}"
            )
        parts = [self.engine(np.ascontiguousarray(part.float().cpu().numpy())) for part in images.split(self.most)]
        joined = [torch.from_numpy(np.concatenate(each)) for each in zip(*parts, strict=True)]
        return dict(zip(self.outputs, joined, strict=True))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images `[N, C, H, W]` to the first output: logits, or embeddings."""
        return self.run(images)[self.outputs[0]]

    @property
    def backbone(self) -> nn.Module:
        """Raises `InputError`: the backbone of an exported network cannot be run alone."""
        raise InputError("an export of this network has no embeddings; they are of the run that it was made from")

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images `[N, C, H, W]` to embeddings `[N, num_features]`."""
        return self.run(images)["embedding"]
