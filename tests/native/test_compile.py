"""Building what is in C, here the depthwise kernels: kept, built by many at once, done without where it fails."""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from convnext.native import compile as build
from convnext.native import depthwise as native

compile_library = build._build


@functools.cache
def compiled(command, source):
    """The library that a compiler builds, compiled once."""
    with tempfile.TemporaryDirectory() as temporary:
        return Path(compile_library(list(command), source, temporary)).read_bytes()


def compile_or_copy(command, source, temporary):
    built = Path(temporary) / f"{source.stem}.so"
    built.write_bytes(compiled(tuple(command), source))
    return str(built)


@pytest.fixture(autouse=True)
def built_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(build, "_build", compile_or_copy)
    monkeypatch.delenv("CONVNEXT_CACHE", raising=False)
    for cached in (build.library, build._say_unread):
        cached.cache_clear()
    yield
    build.library.cache_clear()


def libraries(home):
    return sorted((home / ".cache" / "convnext" / "kernels").glob("*.so"))


def test_built_once_and_kept(tmp_path, monkeypatch):
    assert native.depthwise_available()
    (kept,) = libraries(tmp_path)
    build.library.cache_clear()
    monkeypatch.setattr(build, "_build", lambda command, source, folder: pytest.fail("built again"))
    assert native.depthwise_available()
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_mode & 0o777 == 0o600


def test_another_processor_or_compiler_has_kernels_of_its_own(tmp_path, monkeypatch):
    assert native.depthwise_available()
    build.library.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert native.depthwise_available()
    assert len(libraries(tmp_path)) == 2


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false", "cc --no-such-option"])
def test_no_compiler_means_pytorchs_operators(compiler, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    assert not native.depthwise_available()


def test_a_folder_that_cannot_be_written_means_building_for_this_process_alone(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert native.depthwise_available()


def test_no_home_means_the_same(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert native.depthwise_available()


@pytest.mark.parametrize("damage", [b"cut short", None, "zeros"])
def test_a_damaged_library_is_built_again(tmp_path, damage):
    """One that was cut off, or ends in zeros after a power cut, killed each later start without a word."""
    assert native.depthwise_available()
    (kept,) = libraries(tmp_path)
    whole = kept.read_bytes()
    spoilt = {None: whole[:4096], "zeros": whole[:4096] + bytes(len(whole) - 4096)}.get(damage, damage)
    kept.unlink()  # this process has the old file open
    kept.write_bytes(spoilt)
    kept.chmod(0o600)
    build.library.cache_clear()
    assert native.depthwise_available()
    assert len(kept.read_bytes()) == len(whole)


def test_code_in_a_shared_cache_is_not_loaded(tmp_path, monkeypatch, caplog):
    shared = tmp_path / "shared"
    (shared / "kernels").mkdir(parents=True)
    shared.chmod(0o777)
    assert native.depthwise_available()
    (own,) = libraries(tmp_path)
    planted = shared / "kernels" / own.name
    planted.write_bytes(b"planted")
    monkeypatch.setenv("CONVNEXT_CACHE", str(shared))
    build.library.cache_clear()
    build._say_unread.cache_clear()
    monkeypatch.setattr(build, "_build", lambda *_: pytest.fail("built again"))
    assert native.depthwise_available()
    assert "is not loaded" in caplog.text
    assert planted.read_bytes() == b"planted"


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_that_others_can_write_is_not_used(tmp_path, mode, caplog):
    assert native.depthwise_available()
    (kept,) = libraries(tmp_path)
    kept.parent.chmod(mode)
    kept.write_bytes(b"planted")
    build.library.cache_clear()
    assert native.depthwise_available()
    assert "can be written by others: kernels are built for this process alone" in caplog.text
    assert kept.read_bytes() == b"planted"


@pytest.mark.skipif(os.geteuid() != 0, reason="files of another user can be made by root alone")
def test_a_library_of_another_user_is_not_loaded(tmp_path, caplog):
    assert native.depthwise_available()
    (kept,) = libraries(tmp_path)
    os.chown(kept, 65534, 65534)
    build.library.cache_clear()
    assert native.depthwise_available()
    assert kept.stat().st_uid == 0  # built again, over it
    os.chown(kept.parent, 65534, 65534)
    build.library.cache_clear()
    assert native.depthwise_available()
    assert "belongs to another user" in caplog.text


def test_a_compiler_that_waits_is_given_up(tmp_path, monkeypatch, caplog):
    waiting = tmp_path / "waiting"
    waiting.write_text("#!/bin/sh\nsleep 60\n")
    waiting.chmod(0o755)
    monkeypatch.setenv("CC", str(waiting))
    monkeypatch.setattr(build, "COMPILER_PATIENCE", 0.2)
    assert not native.depthwise_available()
    assert "took more than" in caplog.text


def test_a_command_that_cannot_be_read_is_done_without(monkeypatch, caplog):
    monkeypatch.setenv("CC", 'cc "')
    assert not native.depthwise_available()
    assert "CC cannot be read" in caplog.text


def test_the_compiler_may_have_arguments(monkeypatch):
    monkeypatch.setenv("CC", "cc -g0")
    assert native.depthwise_available()


@pytest.mark.heavy
def test_several_processes_may_build_at_once(tmp_path):
    code = "from convnext.native import depthwise as native; assert native.depthwise_available()"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(libraries(tmp_path)) == 1


def test_code_in_c_can_be_switched_off(tmp_path: Path) -> None:
    """And the network gives the same answers to rounding."""
    script = (
        "import sys, torch; from convnext import create_model; from convnext.native import depthwise;"
        "torch.manual_seed(0); model = create_model('convnextv2_atto', num_classes=3).train();"
        "out = model(torch.rand(2, 3, 64, 64)); out.square().sum().backward();"
        "torch.save([out.detach(), *[p.grad for p in model.parameters()]], sys.argv[1]);"
        "print(depthwise.depthwise_available())"
    )
    said = {}
    for value in ("0", "1"):
        command = [sys.executable, "-c", script, str(tmp_path / value)]
        done = subprocess.run(command, env={**os.environ, "CONVNEXT_NATIVE": value}, capture_output=True, text=True)
        said[value] = done.stdout.strip()
    assert said == {"0": "False", "1": "True"}
    without, with_it = (torch.load(tmp_path / value, weights_only=True) for value in ("0", "1"))
    for one, other in zip(without, with_it, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
