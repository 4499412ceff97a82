"""The depthwise 7x7 convolution, of whole maps and of visible patches."""
