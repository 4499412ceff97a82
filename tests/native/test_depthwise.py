"""The depthwise kernels whatever vectors, threads and defaults there are."""

import pytest
import torch

from convnext.native import compile as build
from convnext.native import depthwise as native
from convnext.nn.depthwise.whole_maps import tile_table


@pytest.fixture(autouse=True)
def found_anew():
    yield
    build.library.cache_clear()


@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
def test_every_width_of_vectors_computes_the_same(capability, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(2, 9, 7, 45, generator=generator) for _ in range(2))
    weight, bias = torch.randn(45, 1, 7, 7, generator=generator), torch.randn(45, generator=generator)
    table = tile_table(9, 7)

    def results():
        build.library.cache_clear()
        found = native.cpu_convolve(x, weight, bias, table, 2), native.cpu_weight_gradient(x, grad, table, 2)
        return found, native.depthwise_library().lanes()

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
    one = native.cpu_weight_gradient(x, grad, tile_table(12, 12), 3)
    try:
        torch.set_num_threads(threads)
        assert torch.equal(native.cpu_weight_gradient(x, grad, tile_table(12, 12), 3), one)
    finally:
        torch.set_num_threads(before)


def test_nothing_in_gives_a_gradient_of_zeros():
    x = torch.zeros(0, 8, 8, 40)
    assert native.cpu_weight_gradient(x, x, tile_table(8, 8), 0).abs().sum() == 0


def test_other_defaults_of_torch_change_nothing():
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(1, 8, 8, 40, generator=generator) for _ in range(2))
    expected = native.cpu_weight_gradient(x, grad, tile_table(8, 8), 1)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(native.cpu_weight_gradient(x, grad, tile_table(8, 8), 1), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_sizes_are_checked_where_python_meets_c() -> None:
    x, table = torch.zeros(4, 8), torch.zeros(1, 8, 8, dtype=torch.int32)
    weight = torch.zeros(8, 1, 7, 7)
    for arguments in (
        (x, weight[:4], None, table, 1),
        (x, weight, torch.zeros(3), table, 1),
        (x.double(), weight, None, table, 1),
        (x, weight, None, table.long(), 1),
        (x, weight, None, torch.zeros(1, 20, 8, dtype=torch.int32), 1),
        (torch.zeros(8, 4).t(), weight, None, table, 1),
    ):
        with pytest.raises(ValueError, match=r"weights|kernel|contiguous"):
            native.cpu_convolve(*arguments)
    for grad in (torch.zeros(4, 4), x.bfloat16(), torch.zeros(2, 8)):
        with pytest.raises(ValueError, match="differ"):
            native.cpu_weight_gradient(x, grad, table, 1)
