"""`--batch-size auto`: the largest batch that fits into memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import FAST, fails

from convnext import cli
from convnext.errors import InputError
from convnext.runs.directory import Run
from convnext.runtime import memory
from convnext.train.batch_size import MemoryTrial, find_batch_size, is_enough, largest, memory_of

GIB = 2**30


def trials(
    each: float, *, beside: float = GIB, limit: int = 16 * GIB, images: int = 10**6, to: int = 8
) -> list[MemoryTrial]:
    """Trials on a machine where an image takes `each` bytes."""
    batches = [batch for batch in (2, 8, 32, 128, 512) if batch <= to]
    return [MemoryTrial(batch, int(beside + each * batch), limit, images) for batch in batches]


def test_by_hand() -> None:
    assert largest(trials(GIB / 10)) == 112  # (0.8 * 16 - 1) * 10 = 118, in eights
    assert largest(trials(GIB)) == 10  # 11.8, even
    assert largest(trials(8 * GIB)[:1]) == 2  # the smallest there is
    assert largest(trials(GIB / 10, images=100)) == 96
    assert largest(trials(GIB / 10), processes=4) == 4 * 112  # of each process
    assert largest(trials(1000)) == 4096


@given(
    each=st.floats(1e6, 4e9),
    limit=st.integers(2 * GIB, 256 * GIB),
    noise=st.lists(st.floats(-0.02, 0.02), min_size=2, max_size=2),
)
def test_it_fits_and_is_at_least_half_of_what_does(each: float, limit: int, noise: list[float]) -> None:
    """With an image's memory measured to a few percent of the growth; a trial that does not fit ends the trials."""
    found = trials(each, limit=limit, to=2)
    while not is_enough(found) and len(found) < 5:
        more = trials(each, limit=limit, to=found[-1].batch * 4)
        if more[-1].peak > limit:
            break
        found = more
    growth = found[-1].peak - (found[-2].peak if len(found) > 1 else 0)
    found = [*found[:-1], found[-1]._replace(peak=int(found[-1].peak + noise[0] * growth))]
    size, fits = largest(found), int((limit - GIB) / each)
    if fits >= 4:
        assert size <= fits
        assert size > min(fits, 4096) / 2 - 4


def test_one_trial_tells_for_itself_alone() -> None:
    (first,) = trials(GIB, to=2)
    assert memory_of([first], 2) == first.peak
    assert memory_of([first], 4) == 2 * first.peak


def test_trials_end_when_the_growth_is_clear() -> None:
    assert not is_enough(trials(1e6, to=2))
    assert not is_enough(trials(1e6, to=32))
    assert is_enough(trials(1e7, to=32))
    assert not is_enough(trials(3 * GIB, to=2))  # how much of it is an image's?
    assert is_enough(trials(6 * GIB, to=2))  # all that may be used
    assert is_enough(trials(1e6, images=20, to=32))


def test_a_run_has_the_number_found(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "classify", str(colours), "--out", str(out), *FAST, "--batch-size", "auto", "--epochs", "1"]
    assert cli.main(command) == 0
    assert Run(out).read_config()["batch_size"] == 24  # as many as there are
    assert not list(tmp_path.glob("*/checkpoints/*.tmp"))
    assert cli.main([*command, "--resume"]) == 0  # the run's own, and nothing is measured
    assert Run(out).read_config()["batch_size"] == 24


def test_what_the_trials_say_is_said(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["train", "classify", colours, "--out", tmp_path / "run", *FAST, "--batch-size", "auto"]
    line = fails(capsys, *command, "--model", "convnextv2_nothing")
    assert "convnextv2_nothing" in line
    assert "--accumulate takes a whole number, not 'x'" in fails(capsys, *command, "--accumulate", "x")
    assert not (tmp_path / "run").exists()


def test_a_place_that_is_taken_is_refused_before_anything_is_measured(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("measured"))
    (tmp_path / "notes.txt").write_text("mine")
    command = ["train", "classify", colours, "--out", tmp_path, *FAST, "--batch-size", "auto"]
    assert "already exists" in fails(capsys, *command)
    assert "is not a run" in fails(capsys, *command, "--overwrite")


def end(monkeypatch: pytest.MonkeyPatch, code: int, found: list[MemoryTrial], stderr: str = "") -> None:
    """The trials' program ends with a status."""
    text = "".join(json.dumps(trial._asdict()) + "\n" for trial in found)
    ended = subprocess.CompletedProcess([], code, stdout=text, stderr=stderr)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: ended)


def test_trials_that_run_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    end(monkeypatch, -9, trials(GIB / 10))  # the third was too much; two tell
    assert find_batch_size("classify", "data", {}, None) == 112
    end(monkeypatch, 1, [], "Traceback ...\nMemoryError")
    with pytest.raises(InputError, match="not even the smallest batch fits"):
        find_batch_size("classify", "data", {}, None)
    end(monkeypatch, -9, [])
    with pytest.raises(InputError, match="not even the smallest batch fits"):
        find_batch_size("classify", "data", {}, None)
    end(monkeypatch, 1, [], "Traceback ...\nKeyError: 'images'")
    with pytest.raises(InputError, match="memory could not be measured: KeyError: 'images'"):
        find_batch_size("classify", "data", {}, None)
    end(monkeypatch, 2, [], "data: no such folder")
    with pytest.raises(InputError, match=r"^data: no such folder$"):
        find_batch_size("classify", "data", {}, None)


def test_the_limit_is_the_shells() -> None:
    """`ulimit -v`, in a program of its own."""
    program = "import torch; from convnext.runtime.memory import Memory; print(Memory(torch.device('cpu')).limit())"
    free = int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout)
    most = 12 * GIB
    limited = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )
    assert GIB < int(limited.stdout) < min(free, most)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_is_the_containers(version: int, tmp_path: Path) -> None:
    """Of control groups, the one that leaves least counts, and files in memory do not."""
    most, used = (
        ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    root = tmp_path / "cgroup"
    base = root if version == 2 else root / "memory"
    group = base / "pods" / "one"
    group.mkdir(parents=True)
    (base / "pods" / most).write_text(f"{4 * GIB}\n")
    (base / "pods" / used).write_text(f"{1 * GIB}\n")
    (group / most).write_text("max\n" if version == 2 else f"{2**63 - 4096}\n")
    (group / used).write_text(f"{1 * GIB}\n")
    own = tmp_path / "own"
    own.write_text("3:cpuset:/\n" + ("0::/pods/one\n" if version == 2 else "4:memory:/pods/one\n"))
    assert memory._free_of_groups(root, own) == [3 * GIB]
    (group / most).write_text(f"{2 * GIB}\n")
    (group / "memory.stat").write_text(f"anon 5\n{'total_' if version == 1 else ''}inactive_file {GIB // 2}\n")
    assert memory._free_of_groups(root, own) == [1.5 * GIB, 3 * GIB]


def test_the_peak_is_of_what_was_held_and_is_no_longer() -> None:
    program = """
import torch
from convnext.runtime.memory import Memory
here = Memory(torch.device("cpu"))
before = here.peak()
held = torch.ones(2**27)
del held
print(here.peak() - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout)
    assert 0.9 * 2**29 < grown < 1.5 * 2**29
