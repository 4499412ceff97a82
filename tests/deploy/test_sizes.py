"""`convnext models --measure`: a row for each member, with what it does and takes on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from making import fails

import convnext
from convnext import InputError, cli
from convnext.deploy import sizes
from convnext.deploy.own_process import run_apart
from convnext.deploy.sizes import choose_models, measure_models
from convnext.models.cost import count_macs
from convnext.variants import VARIANTS

MEASURED = ("latency_ms", "images_per_s", "memory_mb", "batch_memory_mb")
SMALL = """
import json
from pathlib import Path
from convnext.deploy.size_row import MeasuredSize, measure_size
from convnext.runtime.memory import Memory
Memory.limit = lambda self: self.peak() + 60 * 10**6
for model in ("convnextv2_atto", "convnext_base"):
    print(json.dumps(measure_size(MeasuredSize(model, 256, "cpu", "fp32", 1), Path("."))))
"""
"""Measures members on a machine with 60 MB of memory left."""


def test_a_member_is_measured(capsys: pytest.CaptureFixture) -> None:
    options = ["--image-size", "64", "--threads", "1", "--device", "cpu", "--json"]
    assert cli.main(["models", "--measure", "convnextv2_atto", *options]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["model"] == "convnextv2_atto"
    assert row["parameters"] == 3_708_400
    assert row["macs"] == count_macs("convnextv2_atto", 64)
    assert (row["image_size"], row["precision"], row["device"], row["threads"]) == (64, "fp32", "cpu", 1)
    assert row["error"] is None
    assert row["engine"].startswith("torch ")
    assert all(row[name] > 0 for name in MEASURED)
    assert 15 < row["memory_mb"] < row["batch_memory_mb"] < 4000  # the weights alone are 15 MB


def fake(program: str, job: Any, folder: Any, threads: int) -> dict[str, Any]:
    """In place of a process: atto is measured in part, pico not at all."""
    if job.model == "convnextv2_atto":
        return {"engine": "torch", "latency_ms": 12.34, "memory_mb": 300.4, "error": "a batch of 16 does not fit"}
    if job.model == "convnextv2_pico":
        raise InputError("its process was ended by signal 9")
    return {"engine": "torch", "latency_ms": 1.0, "memory_mb": None, "images_per_s": 20.0, "batch_memory_mb": None}


def test_the_table_says_what_does_not_fit_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sizes, "run_apart", fake)
    names = ["convnextv2_pico", "convnextv2_atto", "convnextv2_femto"]
    assert cli.main(["models", "--measure", *names, "--threads", "3", "--device", "cpu"]) == 0
    about, _, head, *lines = capsys.readouterr().out.splitlines()
    assert about.startswith("224 pixels, fp32, 3 threads of ")
    assert head.split() == [
        "model",
        "params",
        "MACs",
        "ms",
        "at",
        "1",
        "images/s",
        "at",
        "16",
        "MB",
        "at",
        "1",
        "MB",
        "at",
        "16",
    ]
    atto, femto, pico = (line.split() for line in lines)
    assert atto[:9] == ["convnextv2_atto", "3.7", "M", "0.55", "G", "12.3", "-", "300", "-"]
    assert " ".join(atto[9:]) == "a batch of 16 does not fit"
    assert femto[5:] == ["1.0", "20.0", "-", "-"]
    assert " ".join(pico) == "convnextv2_pico 9.1 M 1.37 G its process was ended by signal 9"


def test_the_members_are_chosen_by_names_and_patterns() -> None:
    assert choose_models(None) == choose_models([]) == [name for name, each in VARIANTS.items() if each.version == 2]
    assert choose_models(["convnext_tiny", "convnextv2_a*"]) == ["convnextv2_atto", "convnext_tiny"]
    assert choose_models(["*_base"]) == ["convnextv2_base", "convnext_base", "convnext_isotropic_base"]
    with pytest.raises(InputError, match="unknown model 'convnextv2_atom'; nearest: convnextv2_atto"):
        choose_models(["convnextv2_atom"])


def test_what_does_not_fit_is_said_before_the_system_ends_a_process() -> None:
    """Atto's weights are 15 MB, and 16 images are 13; what its first stage makes of them is 42. Base's are 354."""
    done = subprocess.run([sys.executable, "-c", SMALL], capture_output=True, text=True, check=True)
    atto, base = (json.loads(line) for line in done.stdout.splitlines())
    assert atto["error"] == "a batch of 16 does not fit into memory, of which 0.06 GB are free"
    assert [name for name in MEASURED if name in atto] == ["latency_ms", "memory_mb"]
    assert base["error"].startswith("it does not fit into memory, of which 0.0")
    assert not [name for name in MEASURED if name in base]


@pytest.mark.heavy
def test_the_memory_of_half_precision_has_no_copy_in_full() -> None:
    """Base's weights are 354 MB in fp32."""
    how: dict[str, Any] = {"image_size": 32, "threads": 1, "device": "cpu"}
    full, half = (measure_models(["convnext_base"], precision=name, **how)[0] for name in ("fp32", "bf16"))
    assert full.memory_mb is not None
    assert half.memory_mb is not None
    assert half.memory_mb < full.memory_mb - 100


def test_bad_input_is_a_line(capsys: pytest.CaptureFixture) -> None:
    for options, said in (
        (["--image-size", "0"], "--image-size must be at least 1"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--device", "cpu", "--precision", "fp16"], "precision fp16 is for GPUs"),
    ):
        assert said in fails(capsys, "models", "--measure", "convnextv2_atto", *options)
    assert "nearest: convnext_tiny" in fails(capsys, "models", "--measure", "convnext_tini")


def test_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert convnext.measure_models is measure_models
    monkeypatch.setattr(sizes, "run_apart", fake)
    first, second = measure_models(["convnextv2_atto", "convnextv2_pico"], threads=1, device="cpu")
    assert (first.latency_ms, first.images_per_s) == (12.34, None)
    assert (second.error, second.macs) == ("its process was ended by signal 9", VARIANTS["convnextv2_pico"].macs)


def test_a_process_that_is_killed_is_a_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nkill -9 $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(killer))
    job = sizes.size_row.MeasuredSize("convnextv2_atto", 32, "cpu", "fp32", 1)
    with pytest.raises(InputError, match="ended by signal 9, as the system ends those it has no memory for"):
        run_apart("x", job, tmp_path, 1)
