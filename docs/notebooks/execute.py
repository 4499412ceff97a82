"""Run the notebook in a folder of its own, and store its outputs in it: `make notebook`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent / "convnext.ipynb"
WIDGETS = "application/vnd.jupyter.widget-view+json"


def executed(folder: Path, **how: object) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in a folder. A cell that fails is an error.

    Args:
        folder: where the kernel runs.
        how: more arguments of `NotebookClient`.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=1200, resources=resources, record_timing=False, **how).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_plain, cell.outputs) if output is not None]
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def _plain(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """An output as text or a picture; None for a bar, which is gone when its cell ends, and the line that it leaves."""
    data = output.get("data", {})
    if WIDGETS in data or data.get("text/plain", "x").isspace():
        return None
    if "text/plain" in data:
        data.pop("text/html", None)
    return output


if __name__ == "__main__":
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of the command in a cell
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(Path(folder)), NOTEBOOK)
    print(f"{NOTEBOOK}: {NOTEBOOK.stat().st_size / 1000:.0f} kB", file=sys.stderr)
