"""Exports: a trained network for engines that need no PyTorch, or no compiling."""
