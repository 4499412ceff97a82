"""Exports in 8 bits: what is quantised, on which images, what is lost, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from making import FAST_SEGMENT, fails, make_depths, make_scenes
from openvino import opset15 as op
from PIL import Image
from vacuous import nonempty

import convnext
from convnext import InputError, cli
from convnext.deploy.export import int8
from convnext.deploy.export.verify import made_up_images, verify
from convnext.deploy.export.write import export
from convnext.weights import read_meta


@pytest.fixture(scope="module")
def printed(run: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """An export in 8 bits of a classifier, and what the command printed on stdout and stderr."""
    out = tmp_path_factory.mktemp("int8") / "x.xml"
    options = ["--format", "openvino", "--int8", str(colours / "train"), "--data", str(colours)]
    with pytest.MonkeyPatch.context() as patch:
        texts = {name: Spy() for name in ("stdout", "stderr")}
        for name, spy in texts.items():
            patch.setattr(sys, name, spy)
        assert cli.main(["export", str(run), *options, "--json", "--out", str(out)]) == 0
    return out, json.loads(texts["stdout"].text), texts["stderr"].text


class Spy:
    """A stream that keeps what is written."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_network_and_export_are_measured(printed: tuple[Path, dict[str, Any], str], run: Path, colours: Path) -> None:
    out, found, complaints = printed
    assert complaints == ""  # neither bars nor logs of NNCF
    for name, source in (("network", run), ("export", out)):
        assert found["measured"][name] == pytest.approx(convnext.evaluate(str(source), str(colours), device="cpu"))
    assert found["measured"]["network"]["top1"] - found["measured"]["export"]["top1"] <= 10
    meta = read_meta(out)["export"]
    assert (meta["precision"], meta["measured"]) == ("int8", found["measured"])
    assert json.loads(out.with_name("x.xml.json").read_text())["export"]["measured"] == found["measured"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["x.bin", "x.xml", "x.xml.json"]


def test_it_answers_nearly_as_the_network_at_any_size(printed: tuple[Path, dict[str, Any], str], run: Path) -> None:
    out, found, _ = printed
    network, exported = (convnext.load(source, device="cpu").model for source in (run, out))
    assert 0 < found["difference"] < 0.2
    for shape in ((1, 3, 32, 32), (5, 3, 64, 45)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            own, answer = network.embed(images), exported.embed(images)
        assert (own - answer).norm() / own.norm() < 0.2


def test_matrices_are_held_in_8_bits_and_norms_compute_in_full(
    printed: tuple[Path, dict[str, Any], str], run: Path
) -> None:
    out, _, _ = printed
    matrices = sum(
        parameter.numel()
        for module in convnext.load(run, device="cpu").model.modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        for parameter in [module.weight]
    )
    model = openvino.Core().read_model(out)
    eight = [each for each in model.get_ops() if each.get_type_name() == "Constant" and each.get_byte_size() > 64]
    held = sum(each.get_byte_size() for each in eight if each.get_element_type() == openvino.Type.i8)
    assert held == matrices
    quantised = [each.input_value(0).get_node().get_type_name() for each in model.get_ops() if is_rounding(each)]
    assert len(quantised) >= 12
    for each in nonempty(model.get_ops()):
        if each.get_type_name() in ("MVN", "ReduceL2", "ReduceMean", "Divide"):
            assert not any(is_rounding(each.input_value(i).get_node()) for i in range(each.get_input_size()))
    assert out.with_suffix(".bin").stat().st_size < 0.4 * (run / "model.safetensors").stat().st_size


def is_rounding(node: Any) -> bool:
    return node.get_type_name() == "FakeQuantize"


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["segment", "depth"])
def test_networks_that_see_whole_images(task: str, tmp_path: Path) -> None:
    data = (make_scenes if task == "segment" else make_depths)(tmp_path / "data")
    options = [*FAST_SEGMENT, "--epochs", "1", *(["--ignore-index", "9"] if task == "segment" else [])]
    assert cli.main(["train", task, str(data), "--out", str(tmp_path / "run"), *options]) == 0
    done = export(tmp_path / "run", tmp_path / "x.xml", format="openvino", int8=data / "images" / "train", data=data)
    assert done.measured is not None
    assert done.measured["network"].keys() == done.measured["export"].keys()
    own, exported = (convnext.load(source, device="cpu") for source in (tmp_path / "run", done.path))
    image = Image.open(next((data / "images" / "val").iterdir()))
    first, second = own(image), exported(image)
    if task == "segment":
        assert (first == second).mean() > 0.9
    else:
        np.testing.assert_allclose(first, second, atol=0.1 * np.ptp(first) + 0.05 * first.mean())


def test_ranges_are_of_images_as_the_predictor_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evenly spread: a folder's classes follow each other. Values beyond the mean of their extremes are cut off."""
    monkeypatch.setattr(int8, "CALIBRATED", 4)
    for i in range(10):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i}.png")
    seen: list[str] = []

    def read(path: Path) -> Image.Image:
        seen.append(path.name)
        return Image.open(path)

    def transform(image: Image.Image) -> torch.Tensor:
        return torch.full((3, 8, 8), image.getpixel((0, 0))[0] / 9) * torch.linspace(-1, 1, 8)

    images = op.parameter([-1, 3, -1, -1], np.float32, name="images")
    eye = np.eye(3, dtype=np.float32)[:, :, None, None]
    model = openvino.Model([op.convolution(images, eye, [1, 1], [0, 0], [0, 0], [1, 1])], [images], "eye")
    predictor: Any = SimpleNamespace(read=read, transform=transform)
    quantised = openvino.Core().compile_model(int8.quantiser(predictor, tmp_path)(model), "CPU")
    assert list(dict.fromkeys(seen)) == ["0.png", "3.png", "6.png", "9.png"]
    ramp = np.linspace(-3, 3, 64, dtype=np.float32).reshape(1, 1, 8, 8).repeat(3, axis=1)
    np.testing.assert_allclose(quantised(ramp)[0], ramp.clip(-0.5, 0.5), atol=0.01)


def test_outputs_that_are_not_finite_are_refused(run: Path) -> None:
    predictor = convnext.load(run, device="cpu", backend="torch")

    def broken(images: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = predictor.compute(predictor.model, images)
        return {name: each * float("nan") for name, each in zip(predictor.outputs, outputs, strict=True)}

    exported: Any = SimpleNamespace(run=broken)
    with pytest.raises(InputError, match="the export is not written: its outputs are not finite"):
        verify(predictor, exported, made_up_images(2, "RGB"), "int8")


def test_bad_input_is_a_line(
    run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, options = tmp_path / "x.xml", ["--format", "openvino", "--out", tmp_path / "x.xml"]
    assert "int8 is a precision of its own, of --format openvino alone" in fails(
        capsys, "export", run, "--out", tmp_path / "x.onnx", "--int8", colours
    )
    assert "a precision of its own" in fails(capsys, "export", run, *options, "--precision", "bf16", "--int8", colours)
    assert "--data goes with --int8" in fails(capsys, "export", run, *options, "--data", colours)
    (tmp_path / "empty").mkdir()
    assert "holds no images" in fails(capsys, "export", run, *options, "--int8", tmp_path / "empty")
    assert "cannot be listed" in fails(capsys, "export", run, *options, "--int8", tmp_path / "missing")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no image")
    assert "x.png" in fails(capsys, "export", run, *options, "--int8", tmp_path / "broken")
    assert "missing" in fails(capsys, "export", run, *options, "--int8", colours, "--data", tmp_path / "missing")
    monkeypatch.setitem(sys.modules, "nncf", None)
    line = fails(capsys, "export", run, *options, "--int8", colours)
    assert "needs nncf, which is not installed: pip install 'convnext[export]'" in line
    assert not place.exists()
    assert not list(tmp_path.glob(".*"))
