"""Runs made before what it takes to measure was stored in the weights: they load, are measured as then, and resume.

An old run is one of today by the old rule of what is held out, with all that was not written then taken away.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from making import FAST, FAST_DETECT, FAST_SEGMENT, make_folder, make_objects, make_scenes
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from convnext import cli
from convnext.runs.directory import Run
from convnext.weights.files import META_KEY

NEW_OPTIONS = {"hold_out_rule", "white", "deterministic"}
TASKS = {
    "classify": (make_folder, "train", [*FAST, "--hold-out-rule", "1"]),
    "detect": (make_objects, "", [*FAST_DETECT, "--hold-out-rule", "0"]),
    "segment": (make_scenes, "", [*FAST_SEGMENT, "--ignore-index", "9", "--hold-out-rule", "0"]),
}


def as_in_old_times(run: Path) -> None:
    """Take away what runs of then did not have."""
    config = json.loads((run / "config.json").read_text())
    then = {name: value for name, value in config.items() if name not in NEW_OPTIONS}
    then |= {"precision": "fp32", "compile": False}
    (run / "config.json").write_text(json.dumps(then))
    for path in (run / "model.safetensors", run / "checkpoints" / "best.safetensors"):
        with safe_open(path, "pt") as file:
            meta = json.loads(file.metadata()[META_KEY])
        meta = {name: value for name, value in meta.items() if name not in ("origin", "labels")}
        for how in ("preprocessing", "transform"):
            meta.get(how, {}).pop("white", None)
        save_file(load_file(path), path, metadata={"format": "pt", META_KEY: json.dumps(meta)})


@pytest.mark.parametrize("task", TASKS)
def test_an_old_run_is_measured_as_then_and_resumes(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, within, options = TASKS[task]
    data, run = make(tmp_path / "data") / within, tmp_path / "run"
    command = ["train", task, str(data), "--out", str(run)]
    assert cli.main([*command, *options]) == 0
    result = json.loads((run / "result.json").read_text())
    as_in_old_times(run)
    monkeypatch.chdir(tmp_path)
    for weights in (run, run / "model.safetensors"):
        capsys.readouterr()
        assert cli.main(["evaluate", str(weights), str(data), "--json"]) == 0
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert {name: found[name] for name in result} == result
    rows = Run(run).rows()
    shutil.rmtree(sorted((run / "checkpoints").glob("epoch-*"))[-1])
    assert cli.main([*command, "--resume"]) == 0
    assert [row["loss"] for row in Run(run).rows()] == [row["loss"] for row in rows]
