"""The notebook of the documentation: it runs, and what is stored in it is what running it gives."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import subprocess
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from containerfile import on_path
from fresh import fresh_environment
from IPython.core.inputtransformer2 import TransformerManager

import convnext
from convnext.cli.parser import build_parser
from convnext.deploy.space.wheel import write_wheel

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOK = nbformat.read(FOLDER / "convnext.ipynb", as_version=4)
CELLS = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
PLACES = re.compile(r"/(home|root|tmp|Users|work|mnt|var|opt)/|\w:\\\\|site-packages")
"""What paths of a machine hold."""


def execute() -> ModuleType:
    """The script that `make notebook` runs."""
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(cell: nbformat.NotebookNode) -> str:
    """What a cell printed and gave."""
    return "\n".join(each.get("text", "") or each.get("data", {}).get("text/plain", "") for each in cell.outputs)


def figures(cells: list[nbformat.NotebookNode]) -> tuple[dict[str, float], float]:
    """What was measured on the held-out digits, and how far the export's scores are off."""
    (measured,) = (ast.literal_eval(text_of(cell)) for cell in cells if "convnext.evaluate(" in cell.source)
    (difference,) = (float(text_of(cell).split()[-1]) for cell in cells if "convnext.export(" in cell.source)
    return measured, difference


def test_every_cell_is_code_that_there_is() -> None:
    named = set()
    for cell in CELLS:
        tree = ast.parse(TransformerManager().transform_cell(cell.source))
        calls = [
            node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        ]
        named |= {node.attr for node in calls if node.value.id == "convnext"}
        for command in re.findall(r"^!convnext (.*)$", cell.source, re.MULTILINE):
            build_parser().parse_args(shlex.split(command))
    assert named >= {"pretrain", "train_classifier", "evaluate", "load", "export", "write_space"}
    assert named <= set(convnext.__all__)


def test_its_outputs_are_stored() -> None:
    assert [cell.execution_count for cell in CELLS] == list(range(1, len(CELLS) + 1))
    assert (FOLDER / "convnext.ipynb").stat().st_size < 400_000
    kinds = [kind for cell in CELLS for output in cell.outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") >= 5
    for cell in CELLS:
        assert not [output for output in cell.outputs if output.output_type == "error"]
        assert not PLACES.search(text_of(cell)), cell.source
        assert "Traceback" not in text_of(cell)
        assert "Warning" not in text_of(cell)
    assert NOTEBOOK.metadata.keys() == {"kernelspec"}
    measured, difference = figures(CELLS)
    assert measured["top1"] > 95
    assert difference < 1e-4


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter's own
def test_it_runs_with_the_declared_extras_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = fresh_environment(tmp_path / "fresh", "convnext[export]", "ipykernel", without="convnext")
    wheel = tmp_path / write_wheel(tmp_path)
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*install, f"{wheel}[export]"], check=True)
    kernel = tmp_path / "jupyter" / "kernels" / "fresh" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": command, "display_name": "fresh", "language": "python", "env": on_path(python.parent)}
    kernel.write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    (tmp_path / "place").mkdir()
    notebook = execute().executed(tmp_path / "place", kernel_name="fresh")
    measured, difference = figures([cell for cell in notebook.cells if cell.cell_type == "code"])
    assert measured["images"] == figures(CELLS)[0]["images"]
    assert measured["top1"] > 95
    assert difference < 1e-4
    assert (tmp_path / "place" / "space" / "Dockerfile").is_file()
