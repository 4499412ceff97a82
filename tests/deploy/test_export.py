"""Exports: that they compute what the network does, at any size and number of images, and what is refused."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from making import COLOURS, fails, make_folder
from peers import randomise
from PIL import ExifTags, Image
from sitecustomize import BYTE
from vacuous import nonempty

import convnext
from convnext import InputError, WeightsError, cli
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.splits import HoldOut, Origin
from convnext.deploy.export import write
from convnext.deploy.export.formats import PRECISIONS
from convnext.deploy.export.verify import BOUNDS
from convnext.deploy.export.write import Export, export
from convnext.inference.portable import PortableClassifier, portable
from convnext.storage.exports import FORMATS, KEY
from convnext.tasks.embedding import digest_of_model
from convnext.variants import VARIANTS, Variant, find_variant
from convnext.weights import read_meta, save_weights

CLASSES = ["ant", "bee", "cat", "dog", "eel"]
SHAPES = [(1, 3, 224, 224), (7, 3, 64, 64), (2, 3, 97, 333), (1, 3, 31, 8)]


def make_weights(place: Path, name: str = BYTE, **meta: Any) -> Path:
    torch.manual_seed(0)
    model = randomise(convnext.create_model(name, num_classes=len(CLASSES)))
    place.parent.mkdir(exist_ok=True)
    save_weights(model, place, meta={"task": "classify", "classes": CLASSES, "multi_label": False} | meta)
    return place


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("weights") / "own.safetensors")


@pytest.fixture(scope="module")
def export_once(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Export]:
    """The export of the weights in a format, written once, in a folder of its own."""

    @functools.cache
    def of(form: str) -> Export:
        return export(weights, tmp_path_factory.mktemp(form) / f"x{FORMATS[form]}", format=form)

    return of


@pytest.fixture(scope="module")
def onnx_file(export_once: Callable[[str], Export]) -> Path:
    return export_once("onnx").path


def with_meta(file: Path, place: Path, **changes: Any) -> Path:
    """A copy of an ONNX file, and of what lies beside it, of which something else is known."""
    model = onnx.load(file)
    (entry,) = (each for each in model.metadata_props if each.key == KEY)
    entry.value = json.dumps(json.loads(entry.value) | changes)
    onnx.save(model, place)
    beside = json.loads(file.with_name(f"{file.name}.json").read_text())
    place.with_name(f"{place.name}.json").write_text(json.dumps(beside | changes))
    return place


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_an_export_computes_what_the_network_does(
    form: str, weights: Path, export_once: Callable[[str], Export]
) -> None:
    assert_computes(export_once(form), weights, form, "fp32")


def test_a_compiled_package_computes_what_the_network_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a single block, for compiling takes seconds for each."""
    block = Variant("convnextv2_bit", 2, (1,), (16,), 20_000, 2_000_000, None, "isotropic")
    monkeypatch.setitem(VARIANTS, block.name, block)
    weights = make_weights(tmp_path / "weights" / "own.safetensors", block.name)
    assert_computes(export(weights, tmp_path / "x.pt2", format="aot"), weights, "aot", "fp32")


@pytest.mark.heavy
@pytest.mark.parametrize(("form", "precision"), [(form, each) for form, all_ in PRECISIONS.items() for each in all_])
def test_every_precision_computes_what_the_network_does(form: str, precision: str, tmp_path: Path) -> None:
    weights = make_weights(tmp_path / "weights" / "own.safetensors", "convnextv2_atto")
    done = export(weights, tmp_path / f"x{FORMATS[form]}", format=form, precision=precision)
    assert_computes(done, weights, form, precision)


def assert_computes(done: Export, weights: Path, form: str, precision: str) -> None:
    """Shapes of which one is no multiple of the stride, one is smaller than it, and none is what was traced."""
    assert done.difference <= BOUNDS[precision]
    network = convnext.load(weights, device="cpu", backend="torch").model
    exported = convnext.load(done.path).model
    for shape in SHAPES:
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            pairs = [(network(images), exported(images)), (network.embed(images), exported.embed(images))]
        for own, found in pairs:
            assert found.shape == own.shape
            assert (own - found).abs().max() / (own.max() - own.min()) <= BOUNDS[precision]
    files = sorted(path.name for path in done.path.parent.iterdir() if path.is_file())
    assert files == (
        sorted([f"x{FORMATS[form]}", f"x{FORMATS[form]}.json", *(["x.bin"] if form == "openvino" else [])])
    )


@pytest.mark.parametrize(
    "name",
    [
        "convnext_zepto_rms",
        *(pytest.param(name, marks=pytest.mark.heavy) for name in ("convnext_atto", "convnext_atto_ols")),
    ],
)
def test_other_members(name: str, tmp_path: Path) -> None:
    assert export(make_weights(tmp_path / "x.safetensors", name), tmp_path / "x.onnx").difference <= 1e-4


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["convnextv2_tiny", "convnextv2_base", "convnext_tiny", "convnext_base"])
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_larger_members_on_large_images(form: str, name: str, tmp_path: Path) -> None:
    done = export(make_weights(tmp_path / "x.safetensors", name), tmp_path / f"x{FORMATS[form]}", format=form)
    network, exported = (
        convnext.load(source, device="cpu", backend=backend).model
        for source, backend in ((tmp_path / "x.safetensors", "torch"), (done.path, "auto"))
    )
    for shape in ((1, 3, 641, 960), (7, 3, 97, 130)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            own, found = network(images), exported(images)
        assert (own - found).abs().max() / (own.max() - own.min()) <= BOUNDS["fp32"]


def test_half_precision_is_finite_on_extreme_images(tmp_path: Path) -> None:
    """GRN's sum of squares overflows fp16 from activations of 256 on."""
    export(make_weights(tmp_path / "x.safetensors"), tmp_path / "x.onnx", precision="fp16")
    exported = convnext.load(tmp_path / "x.onnx").model
    assert exported(30 * torch.randn(1, 3, 224, 224)).isfinite().all()


def test_an_export_is_a_source_like_another(
    onnx_file: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = make_folder(tmp_path / "colours")
    images = sorted((folder / "val").rglob("*.png"))
    own, exported = (convnext.load(source, device="cpu") for source in (weights, onnx_file))
    for mine, theirs in nonempty(zip(own(images, top_k=5), exported(images, top_k=5), strict=True)):
        assert [one["label"] for one in mine] == [one["label"] for one in theirs]
        np.testing.assert_allclose([a["score"] for a in mine], [a["score"] for a in theirs], atol=1e-5)
    np.testing.assert_allclose(own.embed(images), exported.embed(images), atol=1e-4)
    capsys.readouterr()
    assert cli.main(["predict", str(onnx_file), str(images[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] in CLASSES
    assert cli.main(["embed", str(onnx_file), str(images[0]), "--out", str(tmp_path / "x.npy")]) == 0
    assert exported.backend.startswith("openvino")


@pytest.mark.parametrize(("crop", "multi_label"), [(0.875, False), (1.0, True)])
def test_without_this_package(
    crop: float, multi_label: bool, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The how-to's program, which imports nothing of ours, gives our scores."""
    rule = {**Preprocessing.standard(64).to_dict(), "crop": crop}
    make_weights(tmp_path / "x.safetensors", preprocessing=rule, multi_label=multi_label)
    with_meta(onnx_file, tmp_path / "mine.onnx", preprocessing=rule, multi_label=multi_label)
    pixels = np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif)
    text = (Path(__file__).parents[2] / "docs" / "how-to.md").read_text()
    (program,) = (each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "onnxruntime" in each)
    assert "convnext" not in program
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(program, found)
    own = convnext.load(tmp_path / "x.safetensors", device="cpu")(tmp_path / "photo.jpg", top_k=5)
    assert found["label"] == own[0]["label"]
    scores = {one["label"]: one["score"] for one in own}
    np.testing.assert_allclose(found["scores"], [scores[name] for name in CLASSES], atol=1e-4)


def test_an_export_is_measured_as_its_run(run: Path, colours: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "x.onnx", images=colours / "val")
    own, exported = (
        convnext.evaluate(str(source), str(colours), device="cpu") for source in (run, tmp_path / "x.onnx")
    )
    assert own.keys() == exported.keys()
    assert own["top1"] == exported["top1"]
    assert own["val_loss"] == pytest.approx(exported["val_loss"], abs=1e-4)


def test_an_export_is_measured_on_the_images_that_its_run_held_out(tmp_path: Path) -> None:
    """Of data that do not say themselves what is held out."""
    data = make_folder(tmp_path / "colours", train=12, val=0) / "train"
    origin = Origin(HoldOut(0.3)).to_dict()
    source = make_weights(tmp_path / "x.safetensors", classes=[*COLOURS, "grey", "white"], origin=origin)
    export(source, tmp_path / "x.onnx")
    own, exported = (convnext.evaluate(str(each), str(data), device="cpu") for each in (source, tmp_path / "x.onnx"))
    assert (own["split"], own["images"]) == (exported["split"], exported["images"])
    assert own["split"] == "val"
    assert 0 < own["images"] < 36


def test_weights_without_a_head_embed(tmp_path: Path) -> None:
    model = randomise(convnext.create_model(BYTE, num_classes=0))
    save_weights(model, tmp_path / "x.safetensors", meta={"task": "embed"})
    export(tmp_path / "x.safetensors", tmp_path / "x.onnx")
    found = convnext.load(tmp_path / "x.onnx")
    assert isinstance(found, convnext.Embedder)
    assert found.width == find_variant(BYTE).dims[-1]


def test_what_is_known_travels_inside(weights: Path, onnx_file: Path, tmp_path: Path) -> None:
    """The licence too."""
    meta = read_meta(onnx_file)
    assert meta["classes"] == CLASSES
    assert meta["preprocessing"]["image_size"] == 224
    assert (meta["export"]["format"], meta["export"]["precision"]) == ("onnx", "fp32")
    source = make_weights(tmp_path / "nc.safetensors", licence="CC-BY-NC-4.0", calibration={"temperature": 2.0})
    assert cli.main(["export", str(source), "--out", str(tmp_path / "nc.onnx")]) == 0
    assert read_meta(tmp_path / "nc.onnx")["licence"] == "CC-BY-NC-4.0"
    beside = json.loads((tmp_path / "nc.onnx.json").read_text())
    assert (beside["licence"], beside["calibration"]) == ("CC-BY-NC-4.0", {"temperature": 2.0})


def test_a_model_of_one_class(tmp_path: Path) -> None:
    """One logit of one image has no range that a difference could be a share of."""
    model = randomise(convnext.create_model(BYTE, num_classes=1))
    about = {"task": "classify", "classes": ["flaw"], "multi_label": True}
    save_weights(model, tmp_path / "x.safetensors", meta=about)
    export(tmp_path / "x.safetensors", tmp_path / "x.onnx")
    image = Image.new("RGB", (64, 64), "red")
    own, exported = (convnext.load(tmp_path / name, device="cpu")(image) for name in ("x.safetensors", "x.onnx"))
    assert own[0]["label"] == exported[0]["label"] == "flaw"
    assert own[0]["score"] == pytest.approx(exported[0]["score"], abs=1e-5)


def test_an_export_of_other_weights_is_another_model(export_once: Callable[[str], Export], tmp_path: Path) -> None:
    """Of a run's exports to OpenVINO only the weights differ, which are in the second file: work that was begun with
    one of them is not gone on with another."""
    digests = []
    for change in (b"\0\0", b"\1\0"):
        for suffix in (".xml", ".bin"):
            shutil.copy(export_once("openvino").path.with_suffix(suffix), tmp_path / f"x{suffix}")
        content = (tmp_path / "x.bin").read_bytes()
        (tmp_path / "x.bin").write_bytes(content[:-4] + change + content[-2:])
        digests.append(digest_of_model(convnext.load(tmp_path / "x.xml")))
    assert digests[0] != digests[1]


def test_sizes_are_computed_without_remainders(onnx_file: Path) -> None:
    """Remainders of open sizes made the tracing of a segmenter take twice as long."""
    kinds = {node.op_type for node in onnx.load(onnx_file).graph.node}
    assert "Pad" in kinds
    assert "Mod" not in kinds


def test_a_difference_beyond_the_bound_is_not_written(
    weights: Path, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "write_onnx", lambda program, path, meta: shutil.copyfile(onnx_file, path))
    monkeypatch.setitem(BOUNDS, "fp32", 0.0)
    with pytest.raises(InputError, match="the export is not written: it differs from the network by"):
        export(weights, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_network_too_large_for_a_file_is_a_line(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convnext.deploy.export.formats.LARGEST_ONNX", 10**5)
    with pytest.raises(InputError, match="an ONNX file holds 2 GB, and this network"):
        export(weights, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_a_line(
    weights: Path, onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, image = str(tmp_path / "x.onnx"), tmp_path / "x.png"
    Image.new("RGB", (8, 8)).save(image)
    assert "onnx has no precision bf16: it has fp32, fp16" in fails(
        capsys, "export", weights, "--precision", "bf16", "--out", place
    )
    assert "onnx files end in .onnx" in fails(capsys, "export", weights, "--out", tmp_path / "x.bin")
    assert "is an export" in fails(capsys, "export", onnx_file, "--out", place)
    (tmp_path / "empty").mkdir()
    assert "holds no images" in fails(capsys, "export", weights, "--out", place, "--images", tmp_path / "empty")
    whole = onnx_file.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    assert "was damaged or cut short" in fails(capsys, "predict", tmp_path / "cut.onnx", image)
    (tmp_path / "cut.pt2").write_bytes(b"PK\x03\x04")
    assert "was damaged or cut short" in fails(capsys, "predict", tmp_path / "cut.pt2", image)
    (tmp_path / "cut.xml").write_text("<net><layers>")
    assert "was damaged or cut short" in fails(capsys, "predict", tmp_path / "cut.xml", image)
    foreign = onnx.load(onnx_file)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    assert "`convnext export` did not write it" in fails(capsys, "predict", tmp_path / "foreign.onnx", image)
    for version, line in (("99", "written by a newer version"), ('"1"', "`convnext export` did not write it")):
        other = onnx.load(onnx_file)
        for entry in other.metadata_props:
            entry.value = entry.value.replace('"version": 1', f'"version": {version}')
        onnx.save(other, tmp_path / "other.onnx")
        assert line in fails(capsys, "predict", tmp_path / "other.onnx", image)
    with pytest.raises(WeightsError, match="is an export, without weights to train or convert"):
        convnext.convert(onnx_file, tmp_path / "hf", "hf")
    with pytest.raises(InputError, match=r"takes images \[N, 3, H, W\]"):
        convnext.load(onnx_file).model(torch.zeros(1, 1, 64, 64))
    for package, form in (("onnxscript", "onnx"), ("openvino", "openvino")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        line = fails(capsys, "export", weights, "--format", form, "--out", tmp_path / f"y{FORMATS[form]}")
        assert f"needs {package}, which is not installed: pip install 'convnext[export]'" in line
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_predict_needs_no_pytorch(
    form: str, export_once: Callable[[str], Export], weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """An answer of the command in a fresh process is that of the weights, and no torch is imported for it."""
    out = export_once(form).path
    image = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8)).save(image)
    program = (
        "import sys; from convnext import cli; "
        f"status = cli.main(['predict', {str(out)!r}, {str(image)!r}, '--json', '--top-k', '3']); "
        "sys.exit(status or ('torch' in sys.modules) * 7)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert cli.main(["predict", str(weights), str(image), "--json", "--top-k", "3", "--backend", "torch"]) == 0
    own, found = json.loads(capsys.readouterr().out), json.loads(done.stdout)
    assert [one["label"] for one in own] == [one["label"] for one in found]
    np.testing.assert_allclose([a["score"] for a in own], [a["score"] for a in found], atol=1e-5)


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_without_pytorch(multi_label: bool, weights: Path, onnx_file: Path, tmp_path: Path) -> None:
    path = with_meta(onnx_file, tmp_path / "x.onnx", multi_label=multi_label, licence="CC-BY-NC-4.0")
    found = portable(str(path), "classify")
    assert found is not None
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8))
    labels = PortableClassifier(*found)
    answers = labels.labels([labels.prepare(image), labels.prepare(image.rotate(90))], 5)
    own = convnext.load(path)([image, image.rotate(90)], top_k=5)
    for mine, theirs in nonempty(zip(own, answers, strict=True)):
        assert [one["label"] for one in mine] == [one["label"] for one in theirs]
        np.testing.assert_allclose([a["score"] for a in mine], [a["score"] for a in theirs], atol=1e-6)
    assert portable(str(weights), "classify") is None
    assert portable(str(tmp_path / "missing.onnx"), "classify") is None


@pytest.mark.parametrize(
    "form", ["onnx", *(pytest.param(each, marks=pytest.mark.heavy) for each in ("openvino", "aot"))]
)
def test_a_file_that_takes_pixels(form: str, tmp_path: Path) -> None:
    """It gives the answers of the weights here, and in a program that only resizes and crops."""
    rule = {**Preprocessing.standard(64).to_dict(), "crop": 1.0, "mean": [0.1, 0.5, 0.7], "std": [0.2, 0.3, 0.4]}
    source = make_weights(tmp_path / "x.safetensors", preprocessing=rule)
    path = export(source, tmp_path / f"x{FORMATS[form]}", format=form, pixels=True).path
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (75, 101, 3), dtype=np.uint8))
    own, exported = convnext.load(source, device="cpu", backend="torch"), convnext.load(path)
    for mine, theirs in nonempty(zip(own(image), exported(image), strict=True)):
        assert mine["label"] == theirs["label"]
        assert mine["score"] == pytest.approx(theirs["score"], abs=1e-5)
    if form == "onnx":
        session = onnxruntime.InferenceSession(path)
        pixels = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC))[None]
        logits, _ = session.run(None, {"images": pixels})
        np.testing.assert_allclose(logits, own.model(own.transform(image)[None]), atol=1e-4)
    assert json.loads(path.with_name(f"{path.name}.json").read_text())["export"]["normalises"] == [
        rule["mean"],
        rule["std"],
    ]
