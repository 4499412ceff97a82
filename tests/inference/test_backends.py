"""Engines: that each gives the answers of PyTorch, for every kind of network and task, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import TrainedOnce, fails
from peers import randomise
from PIL import Image
from vacuous import nonempty

import convnext
from convnext import InputError, cli
from convnext.inference.backends.network import use_backend
from convnext.inference.backends.openvino import ANY_SHAPE, CompiledModel
from convnext.inference.backends.operators import OpenvinoNetwork, openvino_models
from convnext.models.detection.rcnn import create_detector

BOUNDS = {"fp32": 1e-5, "bf16": 2e-2}
MEMBERS = [
    "convnextv2_atto",
    "convnext_atto",
    "convnext_atto_ols",
    "convnext_zepto_rms",
    "convnext_tiny_hnf",
    "convnext_nano_ols",
    "convnext_isotropic_small",
]


@pytest.fixture(scope="module")
def onnx_file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convnext.export(run, tmp_path_factory.mktemp("onnx") / "x.onnx").path


def network(name: str = "convnextv2_atto") -> Any:
    torch.manual_seed(0)
    return randomise(convnext.create_model(name, num_classes=5)).eval().requires_grad_(False)


def share(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, as a share of the range of what is expected."""
    return float((found.float() - expected).abs().max() / (expected.max() - expected.min()))


@pytest.mark.parametrize("name", MEMBERS)
def test_openvino_computes_every_kind_of_member(name: str) -> None:
    """Maps of all stages, and logits at a size that is padded."""
    model = network(name)
    images, odd = torch.randn(2, 3, 64, 96), torch.randn(1, 3, 75, 40)
    maps, logits = model.forward_stages(images), model(odd)
    use_backend(model, "openvino", "fp32")
    for own, found in nonempty(zip(maps, model.forward_stages(images), strict=True)):
        assert share(found, own) < BOUNDS["fp32"]
    assert share(model(odd), logits) < BOUNDS["fp32"]


@pytest.mark.parametrize("backend", ["torch", "openvino", pytest.param("compile", marks=pytest.mark.heavy)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_engine_in_every_precision(backend: str, precision: Any) -> None:
    model, images = network(), torch.randn(3, 3, 64, 64)
    logits, embedding = model(images), model.embed(images)
    name = use_backend(model, backend, precision)
    assert backend.removesuffix("e") in name
    for _ in range(3):  # the engine for this shape comes with the second call
        assert share(model(images), logits) < BOUNDS[precision]
    assert share(model.embed(images), embedding) < BOUNDS[precision]


def test_compiled_are_the_stages_and_a_classifiers_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling itself takes a minute: `test_every_engine_in_every_precision`."""
    calls: list[str] = []

    def marked(run: Any) -> Any:
        def call(images: torch.Tensor) -> Any:
            calls.append(run.__name__)
            return run(images)

        return call

    monkeypatch.setattr(torch, "compile", marked)
    model, images = network(), torch.randn(2, 3, 64, 64)
    logits, embedding, maps = model(images), model.embed(images), model.forward_stages(images)
    use_backend(model, "compile", "fp32")
    torch.testing.assert_close(model(images), logits)
    torch.testing.assert_close(model.embed(images), embedding)
    for own, found in nonempty(zip(maps, model.forward_stages(images), strict=True)):
        torch.testing.assert_close(found, own)
    assert set(calls) == {"run_whole", "run_stages"}
    calls.clear()
    detector = create_detector("convnextv2_atto", num_classes=2, fpn_dim=32, linear_dim=64, mask_convs=1).eval()
    use_backend(detector, "compile", "fp32")
    detector(list(images))
    assert set(calls) == {"run_stages"}


def test_an_answer_does_not_depend_on_the_batch_or_on_what_came_before() -> None:
    model, images = network(), torch.randn(5, 3, 64, 64)
    use_backend(model, "openvino", "fp32")
    whole = model(images)
    for _ in range(3):
        for size in (1, 2, 5):
            parts = torch.cat([model(part) for part in images.split(size)])
            torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["openvino", pytest.param("compile", marks=pytest.mark.heavy)])
def test_an_engine_has_weights_of_its_own(backend: str) -> None:
    """Laid out for its products once; an engine that looks the network's up at each call lays them out each time."""
    model, images = network(), torch.randn(1, 3, 64, 64)
    use_backend(model, backend, "fp32")
    with torch.inference_mode():
        logits = model(images)
        model.head.bias.add_(1)
        torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-5)
        use_backend(model, "torch", "fp32")
        torch.testing.assert_close(model(images), logits + 1, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["openvino", pytest.param("compile", marks=pytest.mark.heavy)])
def test_a_new_head_is_computed(backend: str) -> None:
    """Not the head that the engine was made of; nor is a head looked for where there is none."""
    model, images = network(), torch.randn(2, 3, 64, 64)
    use_backend(model, backend, "fp32")
    model(images)
    model.reset_classifier(7)
    with torch.no_grad():
        found, embedding = model(images), model.embed(images)
    torch.testing.assert_close(found, model.head(embedding), rtol=0, atol=1e-6)
    model.reset_classifier(0)
    use_backend(model, backend, "fp32")
    torch.testing.assert_close(model(images), embedding, rtol=0, atol=1e-5)


def test_chosen_classes_are_computed_by_any_engine(run: Path, colours: Path) -> None:
    images = sorted((colours / "val").rglob("*.png"))[:3]
    scores = []
    for backend in ("torch", "openvino"):
        predictor: Any = convnext.load(run, device="cpu", backend=backend)
        predictor(images)
        assert predictor.restrict(["never seen", *predictor.classes[::-1]]) == ["never seen"]
        scores.append(predictor.scores(predictor.batch([predictor.prepare(predictor.read(image)) for image in images])))
    torch.testing.assert_close(*scores, rtol=0, atol=1e-5)


def test_models_of_one_shape_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    compiled = CompiledModel(openvino_models(model)["stages"], "fp32")
    for side in (32, 64, 96, 128):
        for _ in range(2):
            compiled(np.zeros((1, 3, side, side), dtype=np.float32))
    assert compiled.compiled.keys() == {ANY_SHAPE, (1, 3, 32, 32), (1, 3, 64, 64)}
    monkeypatch.setattr("convnext.inference.backends.openvino.LARGE", 1000)
    large = CompiledModel(openvino_models(model)["stages"], "fp32")
    for _ in range(3):
        large(np.zeros((1, 3, 32, 32), dtype=np.float32))
    assert large.compiled.keys() == {ANY_SHAPE}


def test_a_predictor_says_its_engine(run: Path, colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = sorted((colours / "val").rglob("*.png"))
    own = convnext.load(run, device="cpu", backend="torch")
    auto = convnext.load(run, device="cpu")
    assert own.backend.startswith("torch 2.")
    assert auto.backend.startswith("openvino 20")
    for mine, theirs in nonempty(zip(own(images), auto(images), strict=True)):
        assert [one["label"] for one in mine] == [one["label"] for one in theirs]
        np.testing.assert_allclose([a["score"] for a in mine], [a["score"] for a in theirs], atol=1e-5)
    np.testing.assert_allclose(own.embed(images), auto.embed(images), atol=1e-4)
    auto.to("cpu")
    assert auto.backend.startswith("openvino 20")  # where it was already
    auto.to("meta")
    assert auto.backend == "torch"
    monkeypatch.setattr("convnext.inference.backends.network.find_spec", lambda name: None)
    assert convnext.load(run, device="cpu").backend.startswith("torch")


@pytest.mark.parametrize("task", ["segment", "detect", "depth"])
def test_every_task(task: str, trained_once: TrainedOnce) -> None:
    """Heads are PyTorch's, so answers are equal but for rounding."""
    _, run = trained_once(task)
    shown = Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8))
    own, other, half = (
        convnext.load(run, device="cpu", backend=backend, precision=precision)
        for backend, precision in (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
    )
    np.testing.assert_allclose(own.embed(shown), other.embed(shown), atol=1e-4)
    if task == "detect":
        found = [predictor(shown, threshold=0) for predictor in (own, other)]
        assert len(found[0]) == len(found[1])
        for mine, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(mine["box"], theirs["box"], atol=0.1)
            assert mine["score"] == pytest.approx(theirs["score"], abs=1e-3)
        half(shown)
    elif task == "segment":
        assert (own(shown) == other(shown)).mean() >= 0.999
        assert (own(shown) == half(shown)).mean() >= 0.9
    else:
        np.testing.assert_allclose(own(shown), other(shown), rtol=1e-3)
        np.testing.assert_allclose(own(shown), half(shown), rtol=0.1)


def test_evaluate_computes_by_pytorch_unless_told(run: Path, colours: Path) -> None:
    """So a figure does not depend on what is installed."""
    plain = convnext.evaluate(str(run), str(colours), device="cpu")
    stored = json.loads((run / "result.json").read_text())
    assert plain["val_loss"] == stored["val_loss"]
    other = convnext.evaluate(str(run), str(colours), device="cpu", backend="openvino")
    assert other["val_loss"] == pytest.approx(stored["val_loss"], abs=1e-5)
    assert other["top1"] == stored["top1"]
    half = convnext.evaluate(str(run), str(colours), device="cpu", backend="openvino", precision="bf16")
    assert half["val_loss"] == pytest.approx(stored["val_loss"], abs=5e-2)
    assert half["val_loss"] != other["val_loss"]


def test_commands_take_an_engine(run: Path, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image = min((colours / "val").rglob("*.png"))
    assert cli.main(["predict", str(run), str(image), "--json", "--backend", "torch"]) == 0
    plain = json.loads(capsys.readouterr().out)
    how = ["--backend", "openvino", "--precision", "bf16"]
    assert cli.main(["predict", str(run), str(image), "--json", *how]) == 0
    assert json.loads(capsys.readouterr().out)[0]["score"] == pytest.approx(plain[0]["score"], abs=5e-2)
    out = str(tmp_path / "x.npy")
    assert cli.main(["embed", str(run), str(image), "--out", out, *how]) == 0
    assert np.load(out).shape == (1, 128)


def test_bad_input_is_a_line(
    run: Path, colours: Path, onnx_file: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = min((colours / "val").rglob("*.png"))
    predict = ("predict", run, image, "--backend")
    assert "weights are run by torch, compile, openvino, and not by 'tensorrt'" in fails(capsys, *predict, "tensorrt")
    assert "fp16 is for GPUs" in fails(capsys, *predict, "torch", "--precision", "fp16")
    line = fails(capsys, "predict", onnx_file, image, "--backend", "torch")
    assert "is run by openvino or onnxruntime, and not by backend 'torch'" in line
    line = fails(capsys, "predict", onnx_file, image, "--precision", "bf16")
    assert "computes in fp32: export it in bf16" in line
    for size in ((), ("--image-size", "64")):  # with PyTorch, too
        line = fails(capsys, "predict", onnx_file, image, "--device", "cuda", *size)
        assert "is an export, which is computed on the CPU" in line
    with pytest.raises(InputError, match="weights are computed in fp32, bf16, fp16, and not in 'bfloat16'"):
        convnext.load(run, device="cpu", precision="bfloat16")
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "convnext.inference.backends.operators")
    assert "backend 'openvino' is not installed: pip install 'convnext[export]'" in fails(capsys, *predict, "openvino")


def test_both_engines_of_an_onnx_file(onnx_file: Path, colours: Path) -> None:
    image = min((colours / "val").rglob("*.png"))
    scores = []
    for backend in ("openvino", "onnxruntime"):
        predictor = convnext.load(onnx_file, backend=backend)
        assert predictor.backend.startswith(backend)
        scores.append([one["score"] for one in predictor(image)])
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_an_unknown_layer_is_refused() -> None:
    model = network()
    model.stages[0][0].norm = torch.nn.BatchNorm2d(40)
    with pytest.raises(InputError, match="backend 'openvino' has no BatchNorm2d: take backend 'torch'"):
        OpenvinoNetwork(model, "fp32")


def test_signals_are_handled_after_a_model_has_gone(run: Path, colours: Path) -> None:
    """Two models by a core each would leave the thread a freed stack for handlers, and the process a fault."""
    image = min((colours / "val").rglob("*.png"))
    program = (
        "import convnext, gc, signal; "
        f"predictor = convnext.load({str(run)!r}, device='cpu', backend='openvino'); "
        f"[predictor({str(image)!r}) for _ in range(3)]; "
        "del predictor; gc.collect(); seen = []; signal.signal(signal.SIGTERM, lambda *_: seen.append(1)); "
        "signal.raise_signal(signal.SIGTERM); assert seen == [1]"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
