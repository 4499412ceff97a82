"""First depthwise kernels as trained networks have them: smooth, and larger in the middle.

Trained kernels are far from independent noise; where new ones are drawn with such a covariance, networks learn faster
(Trockman, Willmott and Kolter, "Understanding the Covariance Structure of Convolutional Filters", arXiv 2210.03651).
The covariance here is the simplest of its kind, smooth noise under a window. It is also larger than the papers' start
of standard deviation 0.02, whose response a bias outgrows within some hundred steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convnext.nn.depthwise.layer import DepthwiseConv
from convnext.nn.depthwise.whole_maps import KERNEL_SIZE

LENGTH = 0.8
"""Distance over which weights are alike, in positions: a standard deviation."""
WINDOW = 2.0
"""Standard deviation of the window on the weights' variance, in positions."""
NORM = 0.7
"""Norm of each channel's kernel."""


def smooth_kernels(channels: int) -> Tensor:
    """Random kernels `[channels, 1, 7, 7]`, by torch's default generator."""
    places = torch.arange(KERNEL_SIZE, dtype=torch.float64, device="cpu") - KERNEL_SIZE // 2
    places = torch.cartesian_prod(places, places)
    window = (-places.square().sum(-1) / (4 * WINDOW**2)).exp()
    covariance = (-torch.cdist(places, places).square() / (2 * LENGTH**2)).exp() * window.outer(window)
    root = torch.linalg.cholesky(covariance + 1e-4 * torch.eye(len(places), dtype=torch.float64, device="cpu"))
    noise = torch.randn(channels, len(places), device="cpu") @ root.T.float()
    return (NORM * nn.functional.normalize(noise)).view(channels, 1, KERNEL_SIZE, KERNEL_SIZE)


@torch.no_grad()
def start_smooth(network: nn.Module) -> None:
    """Draw the kernels of all depthwise convolutions of a network anew, smooth."""
    for module in network.modules():
        if isinstance(module, DepthwiseConv):
            module.weight.copy_(smooth_kernels(module.in_channels))
