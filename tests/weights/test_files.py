"""Weight files: what is read, what is refused in one line, and that writing is whole or not at all."""

import argparse
import json
import logging
import os
import pickle
import resource
import stat
import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from vacuous import nonempty

from convnext import InputError, WeightsError, create_fcmae, create_model
from convnext.weights import are_trained, read_meta, read_state, save_state
from convnext.weights.layouts import from_official

META = {"task": "classify", "classes": ["cat", "döner"], "multi_label": False, "preprocessing": {"size": 32}}


@pytest.fixture(scope="module")
def state():
    return create_model("convnextv2_atto", num_classes=2).state_dict()


def assert_same(read, state):
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in nonempty(state))


def refusal(source):
    with pytest.raises(WeightsError) as caught:
        read_state(source)
    message = str(caught.value)
    assert "\n" not in message
    assert str(source) in message
    return message


def test_what_is_saved_is_read_back_with_its_metadata(state, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state(path, state, META)
    for source in (path, str(path), tmp_path):  # a run directory stands for its weights
        read, meta = read_state(source)
        assert_same(read, state)
        assert meta == META == read_meta(source)


def test_weights_of_a_task_say_all_themselves_whatever_their_name(state, tmp_path):
    """A name that published weights have gives others a licence and classes, not a run's own."""
    place = tmp_path / "convnextv2_atto_1k_224.safetensors"
    save_state(place, state, meta={"task": "classify", "classes": ["a", "b"]})
    assert read_meta(place) == {"task": "classify", "classes": ["a", "b"]}
    save_state(place, state, meta={"origin": "x"})
    assert read_meta(place)["licence"] == "CC-BY-NC-4.0"
    assert read_meta(place)["origin"] == "x"


def test_the_same_weights_are_the_same_bytes(state, tmp_path):
    few = {name: state[name] for name in list(state)[:3]}
    contents = set()
    for number in range(8):
        save_state(tmp_path / f"{number}.safetensors", few, META)
        contents.add((tmp_path / f"{number}.safetensors").read_bytes())
        assert read_meta(tmp_path / f"{number}.safetensors") == META
    assert len(contents) == 1


def test_a_file_others_may_read(state, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state(path, state)
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert read_meta(path) == {}
    assert load_file(path).keys() == state.keys()


def test_views_are_saved_as_they_look(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    save_state(tmp_path / "x.safetensors", {"a": base.T})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["a"], base.T)


@pytest.mark.parametrize("wrap", [None, "model", "model_ema", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", ["pt", "pth", "bin"])
def test_checkpoints_of_every_wrapping(state, tmp_path, wrap, prefix, suffix):
    few = {key: tensor for key, tensor in state.items() if key.startswith("stages.0.0")}
    inside = {prefix + key: tensor for key, tensor in few.items()}
    path = tmp_path / f"x.{suffix}"
    torch.save({wrap: inside, "epoch": 3, "args": argparse.Namespace(lr=1.0)} if wrap else inside, path)
    assert_same(read_state(path)[0], few)


def test_a_file_in_the_old_format_is_read(state, tmp_path):
    torch.save({"model": state}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    assert_same(read_state(tmp_path / "x.pth")[0], state)


def test_the_averaged_weights_are_preferred_and_it_is_said(state, tmp_path, caplog):
    ema = {key: tensor + 1 for key, tensor in state.items()}
    torch.save({"model": state, "model_ema": ema}, tmp_path / "x.pt")
    with caplog.at_level(logging.INFO, "convnext"):
        assert_same(read_state(tmp_path / "x.pt")[0], ema)
    assert "holds model_ema and model; took model_ema" in caplog.text


@pytest.mark.parametrize("layout", ["timm", "hf", "mmpretrain"])
def test_foreign_layouts_are_read_as_official(state, tmp_path, layout):
    save_file(from_official(state, layout), tmp_path / "x.safetensors")
    assert_same(read_state(tmp_path / "x.safetensors")[0], state)


def test_the_pretraining_decoder_is_left_out(state, tmp_path, caplog):
    backbone = {key: tensor for key, tensor in state.items() if key.startswith(("stages", "downsample"))}
    decoder = {"mask_token": torch.zeros(1, 512, 1, 1), "decoder.0.norm.weight": torch.ones(512)}
    torch.save({"model": from_official(backbone, "fcmae") | decoder}, tmp_path / "x.pt")
    with caplog.at_level(logging.INFO, "convnext"):
        assert_same(read_state(tmp_path / "x.pt")[0], backbone)
    assert "left out the 2 tensors of the pre-training decoder" in caplog.text


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"model": RunsCode()}, protocol=protocol))
    message = refusal(tmp_path / "x.pt")
    assert protocol == 0 or "holds a pickle that could run code; refused" in message
    torch.save({"model": RunsCode()}, tmp_path / "y.pth")
    assert "holds a pickle that could run code; refused; ask for a safetensors file" in refusal(tmp_path / "y.pth")
    assert not (tmp_path / "code-was-run").exists()


def test_a_whole_pickled_model_is_refused(tmp_path):
    torch.save(create_model("convnextv2_atto"), tmp_path / "x.pt")
    assert "could run code" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "safetensors"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.touch()
    assert "is empty" in refusal(path)
    path.write_text("These are not weights.\n" * 10)
    assert "is not a" in refusal(path)
    path.write_bytes(bytes(range(256)) * 20)
    assert "is not a" in refusal(path)
    path.unlink()
    save = save_file if suffix == "safetensors" else torch.save
    save({"a": torch.randn(5000)}, path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "cut short" in refusal(path)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_checkpoint_without_tensors(tmp_path, legacy):
    torch.save({"epoch": 3}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    assert "holds no tensors" in refusal(tmp_path / "x.pt")
    torch.save([torch.ones(2)], tmp_path / "y.pt")
    assert "holds no tensors" in refusal(tmp_path / "y.pt")
    save_file({}, tmp_path / "z.safetensors")
    assert "holds no tensors" in refusal(tmp_path / "z.safetensors")


def test_damaged_metadata(tmp_path):
    for number, text in enumerate(["{", "[]"]):
        path = tmp_path / f"{number}.safetensors"
        save_file({"a": torch.ones(1)}, path, {"convnext": text})
        assert "metadata 'convnext' is not a JSON object" in refusal(path)


def test_missing_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no such weight file" in refusal(tmp_path / "x.pt")
    assert "no such weight file" in refusal("x.safetensors")
    (tmp_path / "runs").mkdir()
    assert "no such weight file or run directory" in refusal("runs/missing")
    assert "holds no model.safetensors" in refusal(tmp_path / "runs")
    assert "nearest: convnextv2_atto_1k_224" in refusal("convnextv2_ato_1k_224")
    assert "see `convnext models`" in refusal("qqq")


def test_classes_come_from_the_configuration_beside_a_hugging_face_file(state, tmp_path):
    save_file(from_official(state, "hf"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"1": "dog", "0": "cat"}}))
    assert read_meta(tmp_path)["classes"] == ["cat", "dog"]
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config.json is not JSON"):
        read_meta(tmp_path)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(state, tmp_path):
    path = tmp_path / "model.safetensors"
    save_state(path, {"a": torch.zeros(1)})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*model\.safetensors: ") as caught:
            save_state(path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_unwritable_paths(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing" / "x.safetensors", tmp_path / "file" / "x.safetensors"):
        with pytest.raises(InputError, match="cannot write"):
            save_state(path, {"a": torch.zeros(1)})
    with pytest.raises(InputError, match=r"x\.pt: weights are written as \.safetensors"):
        save_state(tmp_path / "x.pt", {"a": torch.zeros(1)})


def test_another_librarys_model_is_read_as_it_is(tmp_path):
    resnet = timm.create_model("resnet18").state_dict()
    save_file(resnet, tmp_path / "x.safetensors")
    assert read_state(tmp_path / "x.safetensors")[0].keys() == resnet.keys()


def test_reading_a_file_of_its_own_imports_little(state, tmp_path):
    save_state(tmp_path / "model.safetensors", state, META)
    torch.save({"model": state}, tmp_path / "x.pt")
    code = (
        "import sys; from convnext.weights import read_state; read_state('model.safetensors'); read_state('x.pt'); "
        "heavy = ['timm', 'torchvision', 'huggingface_hub', 'rich', 'torch._dynamo', 'transformers']; "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_what_only_filled_in_patches_counts_as_untrained(tmp_path):
    """Published FCMAE weights do not say that they are; they got the recipe of weights that know labels."""
    torch.manual_seed(0)
    model = create_fcmae("convnextv2_atto")
    torch.save({"model": model.state_dict()}, tmp_path / "fcmae.pt")
    torch.save({"model": model.encoder.state_dict()}, tmp_path / "encoder.pt")
    torch.save({"model": create_model("convnextv2_atto").state_dict()}, tmp_path / "classifier.pt")
    assert not are_trained(None)
    assert not are_trained(tmp_path / "fcmae.pt")
    assert not are_trained(tmp_path / "encoder.pt")
    assert are_trained(tmp_path / "classifier.pt")
