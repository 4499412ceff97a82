"""Image classification, single- or multi-label."""
