"""All code in C and CUDA, compiled where it runs. Each operator has a form in PyTorch too, which stands in where there
is no compiler."""

from pathlib import Path

SOURCES = Path(__file__).parent
"""Folder of the C and CUDA files."""
