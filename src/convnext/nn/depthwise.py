"""The depthwise 7x7 convolution, channels-last."""

from __future__ import annotations

from torch import Tensor, nn

KERNEL_SIZE = 7


class DepthwiseConv(nn.Conv2d):
    """One 7x7 filter and bias for each channel, zero padding 3: `[N, H, W, C]` to the same shape."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, KERNEL_SIZE, padding=KERNEL_SIZE // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        # Permuting to NCHW leaves the memory as it is, which is PyTorch's channels-last format.
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
