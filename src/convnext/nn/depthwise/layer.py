"""The depthwise 7x7 convolution as a layer, of whole maps or of visible patches."""

from __future__ import annotations

from torch import Tensor, nn

from convnext.nn.depthwise.visible_patches import visible_depthwise_conv
from convnext.nn.depthwise.whole_maps import KERNEL_SIZE, PADDING, depthwise_conv
from convnext.nn.visible_patches import VisiblePatches


class DepthwiseConv(nn.Conv2d):
    """One 7x7 filter and bias for each channel, zero padding 3.

    `[N, H, W, C]` to the same shape; or visible patches `[N, V, p, p, C]` to the same shape, reading zeros where
    the image is hidden.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, KERNEL_SIZE, padding=PADDING, groups=dim)

    def forward(self, x: Tensor, patches: VisiblePatches | None = None) -> Tensor:
        if patches is not None:
            return visible_depthwise_conv(x, self.weight, self.bias, patches)
        # Permuting to NCHW leaves the memory as it is, which is PyTorch's channels-last format.
        return depthwise_conv(x.permute(0, 3, 1, 2), self.weight, self.bias).permute(0, 2, 3, 1)
