"""The mathematics of ConvNeXt: norms, depthwise convolution, block, backbone."""
