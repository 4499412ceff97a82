"""Probes of frozen features: nearest neighbours and a linear classifier on them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from convnext.data.loading import Batch
from convnext.errors import InputError
from convnext.nn.backbone import ConvNeXt

NEIGHBOURS = 20
TEMPERATURE = 0.07
CPU = torch.device("cpu")


@torch.no_grad()
def pooled_features(backbone: ConvNeXt, batches: Iterable[Batch], device: torch.device) -> tuple[Tensor, Tensor]:
    """The last stage's features, averaged over positions, fp32 `[M, C_4]`, and targets `[M]`, of readable images."""
    training = backbone.training
    backbone.eval()
    features, targets = [], []
    for batch in batches:
        if len(batch.indices):
            features.append(backbone.forward_stages(batch.on(device))[-1].mean(dim=(1, 2)).float().cpu())
            targets.append(batch.targets)
    backbone.train(training)
    if not features:
        raise InputError("no image of the probe's data can be read")
    return torch.cat(features), torch.cat(targets)


@torch.no_grad()
def stage_features(backbone: ConvNeXt, images: Tensor) -> Tensor:
    """Mean and deviation over positions of every stage's features, fp32 `[N, 2·ΣC_i]`, of normalised images
    `[N, C, H, W]`.

    On small sets a pre-trained network's early stages say more than its last (docs/log.md).
    """
    stages = [stage.float().flatten(1, 2) for stage in backbone.forward_stages(images)]
    return torch.cat([part for stage in stages for part in (stage.mean(1), stage.std(1, correction=0))], dim=1)


def probe_accuracy(
    backbone: ConvNeXt, train: Iterable[Batch], val: Iterable[Batch], device: torch.device
) -> dict[str, float]:
    """`knn` and `linear_probe`: top-1 on `val` in percent, by the frozen features of `train`.

    Features are standardised by the mean and deviation of `train`.
    """
    (x, y), (x_val, y_val) = pooled_features(backbone, train, device), pooled_features(backbone, val, device)
    if len(y.unique()) < 2:
        raise InputError("the probe's readable training images are of one class; it takes two")
    std, mean = torch.std_mean(x, dim=0)
    x, x_val = ((values - mean) / (std + 1e-6) for values in (x, x_val))
    guesses = {"knn": nearest_classes(x, y, x_val, device), "linear_probe": linear_classes(x, y, x_val)}
    return {name: round(100 * (guess == y_val).double().mean().item(), 2) for name, guess in guesses.items()}


def nearest_classes(x: Tensor, y: Tensor, queries: Tensor, device: torch.device = CPU) -> Tensor:
    """The class most of the `NEIGHBOURS` nearest by cosine have, weighted by exp(cosine / `TEMPERATURE`).

    Neighbours are found on `device`; all else is on the CPU.
    """
    x, classes = F.normalize(x).to(device), []
    for part in F.normalize(queries).split(256):  # a large set's similarities would not fit in memory
        nearest = (part.to(device) @ x.T).topk(min(NEIGHBOURS, len(x)))
        votes = torch.zeros(len(part), int(y.max()) + 1)
        votes.scatter_add_(1, y[nearest.indices.cpu()], (nearest.values.cpu() / TEMPERATURE).exp())
        classes.append(votes.argmax(dim=1))
    return torch.cat(classes)


def linear_classes(x: Tensor, y: Tensor, queries: Tensor) -> Tensor:
    """Multinomial logistic regression on all of `x`."""
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=0.01, max_iter=300, tol=1e-3).fit(x.numpy(), y.numpy())
    return torch.from_numpy(classifier.predict(queries.numpy()))
