"""The package in a notebook: the same functions, a bar that is a widget, and cells that can be interrupted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from sitecustomize import BYTE

from convnext.runs.directory import Run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter's own

CELLS = [
    """
import time
import convnext
import ipywidgets

class SlowBar(ipywidgets.Output):
    def clear_output(self, *args, **kwargs):
        super().clear_output(*args, **kwargs)
        time.sleep(0.1)  # what another thread prints meanwhile is lost

ipywidgets.Output = SlowBar
options = {"model": MODEL, "image_size": 32, "epochs": 2, "batch_size": 8, "workers": 0}
result = convnext.train_classifier(DATA, out="run", **options)
result.metrics
""",
    "sorted(convnext.evaluate('run', DATA, workers=0))",
    "convnext.load('run')(IMAGE)[0]",
    "import signal\nsignal.getsignal(signal.SIGTERM)",
    """
try:
    convnext.train_classifier('nowhere', out='other')
except convnext.InputError as error:
    print(error)
""",
]


def test_a_notebook_trains_measures_and_predicts(colours: Path, tmp_path: Path) -> None:
    image = next((colours / "val" / "red").iterdir())
    values = {"DATA": str(colours), "IMAGE": str(image), "MODEL": BYTE}
    cells = [re.sub("|".join(values), lambda found: repr(values[found[0]]), cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert any("application/vnd.jupyter.widget-view+json" in each.get("data", {}) for each in outputs[0])
    assert "epoch 1/2" in str(outputs[0])
    assert "epoch 2/2" in str(outputs[0])
    assert "top1" in outputs[0][-1]["data"]["text/plain"]
    assert "top1" in outputs[1][-1]["data"]["text/plain"]
    assert "red" in outputs[2][-1]["data"]["text/plain"]
    assert "StopSignal" not in str(outputs[3])
    assert "nowhere: no such folder" in str(outputs[4])


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[tuple[KernelManager, Any]]:
    manager = KernelManager()
    manager.start_kernel(cwd=str(tmp_path))
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_a_cell_is_interrupted_and_goes_on(colours: Path, tmp_path: Path, kernel: tuple[KernelManager, Any]) -> None:
    manager, client = kernel
    options = f"out='run', model={BYTE!r}, image_size=32, batch_size=8, epochs=EPOCHS"
    call = f"convnext.train_classifier({str(colours)!r}, {options})"
    cell = run_cell(client, "import convnext\n" + call.replace("EPOCHS", "500"))
    wait_for(lambda: Run(tmp_path / "run").can_resume())
    manager.interrupt_kernel()
    reply = answer(client, cell)
    assert (reply["status"], reply["ename"]) == ("error", "Stopped")
    assert "continue with --resume" in reply["evalue"]
    cell = run_cell(client, "import multiprocessing\nassert not multiprocessing.active_children()\n1 / 0")
    assert answer(client, cell)["ename"] == "ZeroDivisionError"  # the kernel lives on
    cell = run_cell(client, call.replace("epochs=EPOCHS", "patience=1, resume=True, base_lr=0.0"))
    assert answer(client, cell)["status"] == "ok"


def run_cell(client: Any, code: str) -> str:
    """Start a cell; one that fails does not take along those that were sent too early."""
    return client.execute(code, stop_on_error=False)


def answer(client: Any, cell: str) -> dict[str, Any]:
    """What the kernel says of a cell."""
    while True:
        message = client.get_shell_msg(timeout=120)
        if message["parent_header"].get("msg_id") == cell:
            return message["content"]


def wait_for(is_there: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < end
        time.sleep(0.1)
