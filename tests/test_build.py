"""Building what is in C, here the depthwise kernels: kept, built by many at once, done without where it fails."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convnext import build
from convnext.nn.depthwise_dense import tile_table
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


@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
def test_every_width_of_vectors_computes_the_same(capability, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(2, 9, 7, 45, generator=generator) for _ in range(2))
    weight, bias = torch.randn(45, 1, 7, 7, generator=generator), torch.randn(45, generator=generator)
    table = tile_table(9, 7)

    def results():
        build.library.cache_clear()
        found = native.depthwise(x, weight, bias, table, 2), native.depthwise_weight_gradient(x, grad, table, 2)
        return found, native.library().lanes()

    best, _ = results()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    other, lanes = results()
    assert lanes == {"DEFAULT": 4, "AVX2": 8}[capability]
    for a, b in zip(best, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(3, 12, 12, 40, generator=generator) for _ in range(2))
    before = torch.get_num_threads()
    one = native.depthwise_weight_gradient(x, grad, tile_table(12, 12), 3)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(native.depthwise_weight_gradient(x, grad, tile_table(12, 12), 3), one)
    finally:
        torch.set_num_threads(before)


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


def test_nothing_in_gives_a_gradient_of_zeros():
    x = torch.zeros(0, 8, 8, 40)
    assert native.depthwise_weight_gradient(x, x, tile_table(8, 8), 0).abs().sum() == 0


def test_other_defaults_of_torch_change_nothing():
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(1, 8, 8, 40, generator=generator) for _ in range(2))
    expected = native.depthwise_weight_gradient(x, grad, tile_table(8, 8), 1)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(native.depthwise_weight_gradient(x, grad, tile_table(8, 8), 1), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_several_processes_may_build_at_once(tmp_path):
    code = "from convnext.nn.kernels import native; assert native.available()"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(list((tmp_path / "kernels").iterdir())) == 1
