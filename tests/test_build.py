"""Building what is in C, here the depthwise kernels: kept, built by many at once, done without where it fails."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convnext import build
from convnext.nn.kernels import native


@pytest.fixture(autouse=True)
def built_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path))
    build.library.cache_clear()
    yield
    build.library.cache_clear()


def test_built_once_and_kept(tmp_path, monkeypatch):
    assert native.available()
    (kept,) = (tmp_path / "kernels").iterdir()
    build.library.cache_clear()
    monkeypatch.setattr(build, "_build", lambda command, source, folder: pytest.fail("built again"))
    assert native.available()
    assert kept.suffix == ".so"


def test_another_processor_or_compiler_has_kernels_of_its_own(tmp_path, monkeypatch):
    assert native.available()
    build.library.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert native.available()
    assert len(list((tmp_path / "kernels").iterdir())) == 2


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "cc --no-such-option"])
def test_no_compiler_means_pytorchs_operators(compiler, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    assert not native.available()


def test_a_folder_that_cannot_be_written_means_building_for_this_process_alone(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "file"))
    assert native.available()


def test_no_home_means_the_same(monkeypatch):
    monkeypatch.delenv("CONVNEXT_CACHE")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert native.available()


def test_a_damaged_library_is_built_again(tmp_path, monkeypatch):
    assert native.available()
    (built,) = (tmp_path / "kernels").iterdir()
    kept = tmp_path / "elsewhere" / "kernels" / built.name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"cut short")
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "elsewhere"))
    build.library.cache_clear()
    assert native.available()
    assert len(kept.read_bytes()) > 1000


def test_the_compiler_may_have_arguments(monkeypatch):
    monkeypatch.setenv("CC", "cc -g0")
    assert native.available()


def test_several_processes_may_build_at_once(tmp_path):
    code = "from convnext.nn.kernels import native; assert native.available()"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(list((tmp_path / "kernels").iterdir())) == 1
