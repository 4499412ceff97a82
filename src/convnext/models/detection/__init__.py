"""Mask R-CNN and Cascade Mask R-CNN, part by part."""
