"""The benchmark of the GPU path runs whole without a GPU, so that no minute of one is lost to a slip."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from vacuous import nonempty

ROOT = Path(__file__).parents[1]


@pytest.mark.heavy
def test_every_part_of_the_gpu_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--out", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert said.returncode == 0, said.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    parts = ("ceilings", "correctness", "depthwise", "blocks", "steps", "trainer", "inference")
    for part in parts:
        assert results[part], part
        texts = [(name, cell) for row in results[part] for name, cell in row.items() if isinstance(cell, str)]
        assert not [cell for name, cell in texts if "Error" in cell or name == "failed"]
    assert all(row["passes"] for row in nonempty(results["correctness"]))
