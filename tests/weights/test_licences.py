"""A licence that restricts use: said, stored, and carried on to everything that is made from the weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from making import FAST, make_folder

import convnext
from convnext import cli
from convnext.runs.summary import summarise_run
from convnext.weights import are_trained, read_meta, read_state, save_state
from convnext.weights.licences import RESTRICTIONS, inherited, licence_named, licence_on_hub, restriction_of

NON_COMMERCIAL = {"licence": "CC-BY-NC-4.0", "licence_from": "convnextv2_atto_1k_224"}
SAID = "licensed CC-BY-NC-4.0, as convnextv2_atto_1k_224: not for commercial use"


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file under the name of published V2 weights."""
    path = tmp_path_factory.mktemp("official") / "convnextv2_atto_1k_224_ema.safetensors"
    save_state(path, convnext.create_model("convnextv2_atto").state_dict())
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "data", train=4, val=2)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return found


def train(data: Path, out: Path, init: Path) -> None:
    options = [*FAST, "--epochs", "1", "--model", "convnextv2_atto"]
    assert cli.main(["train", "classify", str(data), "--out", str(out), "--init", str(init), *options]) == 0


@pytest.fixture(scope="module")
def runs(official: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that started from the file, and one that started from that run."""
    folder = tmp_path_factory.mktemp("runs")
    train(data, folder / "first", official)
    train(data, folder / "second", folder / "first" / "checkpoints" / "best.safetensors")
    return folder / "first", folder / "second"


@pytest.mark.parametrize("which", [0, 1], ids=["child", "grandchild"])
def test_a_run_says_the_licence_of_what_it_started_from(
    runs: tuple[Path, Path], which: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = runs[which]
    for name in ("model.safetensors", "checkpoints/best.safetensors"):
        assert inherited(read_meta(run / name)) == NON_COMMERCIAL
    environment = json.loads((run / "environment.json").read_text())
    assert inherited(environment) == NON_COMMERCIAL
    assert json.loads((run / "summary.json").read_text())["licence"] == SAID
    assert summarise_run(run).licence == SAID
    assert f"**Licence:** {SAID}\n" in (run / "README.md").read_text().replace("\\", "")

    # What is read and written again, in another layout or not, has it too.
    model = convnext.load(run, device="cpu").model
    for layout in ("official", "timm", "hf"):
        path = tmp_path / f"{layout}.safetensors"
        convnext.save_weights(model, path, layout=layout)
        assert inherited(read_meta(path)) == NON_COMMERCIAL
    state, meta = read_state(run)
    save_state(tmp_path / "converted.safetensors", state, meta)
    assert inherited(read_meta(tmp_path / "converted.safetensors")) == NON_COMMERCIAL


def test_python_says_and_keeps_it(official: Path, tmp_path: Path, data: Path) -> None:
    model = convnext.create_model("convnextv2_atto", num_classes=3, weights=official)
    convnext.save_weights(model, tmp_path / "mine.safetensors", meta={"task": "classify", "classes": ["a", "b", "c"]})
    assert read_meta(tmp_path / "mine.safetensors") == {"task": "classify", "classes": ["a", "b", "c"]} | NON_COMMERCIAL
    encoder = convnext.create_fcmae("convnextv2_atto")
    convnext.load_weights(encoder.encoder, official)
    convnext.save_weights(encoder, tmp_path / "fcmae.safetensors")
    assert inherited(read_meta(tmp_path / "fcmae.safetensors")) == NON_COMMERCIAL
    result = convnext.pretrain(
        data,
        out=tmp_path / "pretrained",
        init=str(official),
        model="convnextv2_atto",
        image_size=64,
        epochs=1,
        batch_size=4,
        workers=0,
        decoder_dim=32,
        muon_lr_scale=None,
    )
    assert result.licence == SAID
    assert inherited(read_meta(result.weights)) == NON_COMMERCIAL


def test_it_is_said_once_for_each_file(official: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = tmp_path / official.name
    copy.write_bytes(official.read_bytes())
    for _ in range(2):
        assert SAID in convnext.load_weights(convnext.create_model("convnextv2_atto"), copy).notes
    assert warnings(caplog) == [f"{copy.name}: {SAID}"]


def test_other_licences_are_not_said_and_not_inherited(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "free.safetensors"
    state = convnext.create_model("convnextv2_atto", num_classes=3).state_dict()
    save_state(path, state, {"task": "classify", "classes": ["a", "b", "c"], "licence": "Apache-2.0"})
    model = convnext.create_model("convnextv2_atto", num_classes=3, weights=path)
    convnext.save_weights(model, tmp_path / "again.safetensors")
    assert "licence" not in read_meta(tmp_path / "again.safetensors")
    train(data, tmp_path / "run", path)
    assert not warnings(caplog)
    assert "licence" not in read_meta(tmp_path / "run")
    assert summarise_run(tmp_path / "run").licence == ""
    assert "**Licence:** not stated by the author" in (tmp_path / "run" / "README.md").read_text()


def test_the_command_ends_with_the_licence(
    official: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train(data, tmp_path / "run", official)
    assert f"licence: the weights are {SAID}" in capsys.readouterr().out.splitlines()


def test_a_converted_file_without_more_to_say_is_still_known_by_its_name(official: Path, tmp_path: Path) -> None:
    """Its classes and its size: what is stored is the licence alone."""
    model = convnext.create_model("convnextv2_nano", weights=None)
    path = tmp_path / "convnextv2_nano_22k_1k_384.safetensors"
    convnext.save_weights(model, path)
    model = convnext.create_model("convnextv2_nano", weights=path)
    convnext.save_weights(model, path)
    assert read_meta(path)["image_size"] == 384
    assert are_trained(path)


@pytest.mark.parametrize(
    ("said", "name", "asks"),
    [
        ("mit", "MIT", False),
        ("bsd-3-clause", "BSD-3-Clause", False),
        ("dinov3-license", "DINOv3", True),
        ("fair-noncommercial-research-license", "FAIR-Noncommercial-Research", True),
        ("cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0", True),
        ("cc-by-4.0", "cc-by-4.0", False),
        ("something-new", "something-new", True),
        ("unknown", "", False),
        (None, "", False),
        (7, "", False),
        ("a\x1b[2J" * 100, None, True),
    ],
)
def test_names_of_licences(said: object, name: str | None, asks: bool) -> None:
    found = licence_named(said)
    assert found == name if name is not None else (found.isprintable() and len(found) <= 80)
    assert bool(restriction_of(found)) == asks


def test_dinov3_s_terms() -> None:
    assert restriction_of("DINOv3").startswith("commercial use allowed; derivatives keep the licence; no military")


@pytest.mark.parametrize(
    ("licence", "kind", "name"),
    [
        ("CC-BY-NC-4.0", "cc-by-nc-4.0", None),
        ("BSD-3-Clause", "bsd-3-clause", None),
        ("cc-by-nc-sa-4.0", "cc-by-nc-sa-4.0", None),
        ("DINOv3", "other", "dinov3-license"),
        ("something-new", "other", "something-new"),
    ],
)
def test_licences_on_the_hub(licence: str, kind: str, name: str | None) -> None:
    metadata = licence_on_hub(licence)
    assert (metadata["license"], metadata.get("license_name")) == (kind, name)


@pytest.mark.parametrize("licence", RESTRICTIONS)
def test_a_licence_comes_back_from_the_hub(licence: str) -> None:
    metadata = licence_on_hub(licence)
    assert licence_named(metadata.get("license_name") or metadata["license"]) == licence
    assert licence_on_hub("") == {}
