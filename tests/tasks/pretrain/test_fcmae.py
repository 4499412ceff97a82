"""Pre-training end to end: any folder in, a run that everything after takes; and every way to get it wrong."""

import json

import pytest
import torch
from making import FAST, charts_drawn, fails, make_folder
from PIL import Image
from safetensors.torch import load_file
from sitecustomize import BYTE
from vacuous import nonempty

import convnext
from convnext import cli
from convnext.data.image_set import read_images
from convnext.models.fcmae import load_fcmae
from convnext.runs.directory import Run
from convnext.tasks.pretrain.fcmae.config import PretrainConfig
from convnext.tasks.pretrain.fcmae.task import Pretraining
from convnext.train.launch import train_task
from convnext.train.trainer import Trainer
from convnext.weights import read_state

OPTIONS = ["--image-size", "64", "--epochs", "2", "--batch-size", "8", "--workers", "0", "--decoder-dim", "64"]
OPTIONS += ["--model", BYTE]


@pytest.fixture(scope="module")
def pretrained(colours, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    command = ["pretrain", str(colours / "train"), "--out", str(out), "--probe", str(colours), "--probe-every", "1"]
    with charts_drawn():
        assert cli.main([*command, *OPTIONS]) == 0
    return out


def test_the_run_holds_what_a_person_looks_at(pretrained):
    rows = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert {"loss", "lr", "images_per_second", "feature_distance", "knn", "linear_probe"} <= rows[0].keys()
    for name in ("reconstructions-0001.png", "reconstructions.png", "curves.png", "feature_distances.png"):
        with Image.open(pretrained / name) as picture:
            assert picture.size[0] > 100
    distances = json.loads((pretrained / "feature_distances.json").read_text())
    assert [(epoch, len(layers)) for epoch, layers in distances.items()] == [("1", 5), ("2", 5)]
    assert "pre-trained" in (pretrained / "README.md").read_text()
    assert list((pretrained / "tensorboard").iterdir())


def test_into_classification(pretrained, colours, tmp_path, caplog):
    out = tmp_path / "run"
    command = ["train", "classify", str(colours), "--init", str(pretrained), "--out", str(out), *FAST]
    assert cli.main([*command, "--epochs", "1", "--base-lr", "0", "--min-lr", "0"]) == 0
    assert "left out the 15 tensors of the pre-training decoder" in caplog.text
    assert "the file has no head and last norm: the model keeps its own, untrained" in caplog.text
    first, second = load_file(pretrained / "model.safetensors"), load_file(out / "model.safetensors")
    shared = [key for key in second if key.startswith(("stages", "downsample"))]
    assert len(shared) > 40
    assert all(torch.equal(second[key], first[f"encoder.{key}"]) for key in shared)


def test_into_load_weights_and_a_second_pretraining(pretrained, colours, tmp_path):
    model = convnext.create_model(BYTE, num_classes=0)
    convnext.load_weights(model, pretrained)
    state = load_file(pretrained / "model.safetensors")
    assert torch.equal(model.stages[2][1].grn.gamma, state["encoder.stages.2.1.grn.gamma"])
    out = tmp_path / "more"
    command = ["pretrain", str(colours), "--init", str(pretrained), "--out", str(out), *OPTIONS, "--base-lr", "0"]
    assert cli.main(command) == 0
    again = load_file(out / "model.safetensors")
    assert torch.equal(again["encoder.stages.0.0.dwconv.weight"], state["encoder.stages.0.0.dwconv.weight"])


def test_a_run_loads_whole(pretrained, tmp_path):
    model, meta = load_fcmae(pretrained)
    state = load_file(pretrained / "model.safetensors")
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert (model.patch_size, model.mask_ratio, meta["task"]) == (32, 0.6, "pretrain")
    torch.save({"model": state}, tmp_path / "fcmae.pt")  # as the official code keeps it
    again, _ = load_fcmae(tmp_path / "fcmae.pt")
    assert all(torch.equal(tensor, state[key]) for key, tensor in again.state_dict().items())
    assert not [key for key in read_state(pretrained)[0] if key.startswith(("decoder", "mask_token"))]


def test_reconstruct(pretrained, colours, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    command = ["analyze", "reconstruct", str(pretrained), "--out", str(tmp_path / "out"), str(colours / "val")]
    assert cli.main(command) == 0
    files = capsys.readouterr().out.split()
    assert len(files) == 2  # 12 images, 8 a sheet
    assert cli.main([*command, str(bad)]) == 1
    assert "bad.png" in capsys.readouterr().err
    assert "no image could be read" in fails(
        capsys, "analyze", "reconstruct", pretrained, bad, "--out", tmp_path / "none"
    )


def test_a_v1_run_loads_whole_too(colours, tmp_path):
    out = tmp_path / "v1"
    command = ["pretrain", str(colours / "val"), "--out", str(out), *OPTIONS, "--model", "convnext_zepto_rms"]
    assert cli.main([*command, "--epochs", "1"]) == 0
    state = load_file(out / "model.safetensors")
    assert all(torch.equal(tensor, state[key]) for key, tensor in load_fcmae(out)[0].state_dict().items())


def test_unreadable_images_are_passed_over(tmp_path, capsys, caplog):
    folder = make_folder(tmp_path / "colours", train=4, val=1)
    for path in sorted((folder / "train" / "blue").iterdir()):
        path.write_bytes(b"")
    out = tmp_path / "run"
    options = [*OPTIONS, "--max-unreadable", "0.5"]
    assert cli.main(["pretrain", str(folder / "train"), "--out", str(out), *options]) == 0
    assert len((out / "unreadable.txt").read_text().splitlines()) == 4


def test_the_other_commands_runs_are_not_resumed(pretrained, run, colours, capsys):
    said = fails(capsys, "pretrain", colours, "--out", run, "--resume")
    assert "was begun by `convnext train classify`" in said
    said = fails(capsys, "train", "classify", colours, "--out", pretrained, "--resume")
    assert "was begun by `convnext pretrain`" in said


def test_reconstruct_needs_a_decoder(run, colours, tmp_path, capsys):
    assert "holds no decoder" in fails(capsys, "analyze", "reconstruct", run, colours / "val", "--out", tmp_path)


def test_flat_and_nested_folders(colours, tmp_path):
    assert len(read_images(colours)) == 36
    assert len(read_images(colours / "val" / "red")) == 4
    assert len(read_images("digits")) == 1438


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--image-size", "100"], "image_size 100 is no multiple of patch_size 32; 96 or 128 would do"),
        (["--image-size", "64", "--patch-size", "48"], "--patch-size must be a multiple of 32 at stem_patch 4, not 48"),
        (["--mask-ratio", "1.2"], "--mask-ratio must lie between 0 and 1, not 1.2"),
        (["--mask-ratio", "0.9"], "mask_ratio 0.9 leaves all or none of 4 patches visible"),
        (["--mask-ratio", "0"], "--mask-ratio must lie between 0 and 1, not 0.0"),
        (["--mask-ratio", "1e-17"], "leaves all or none of 4 patches visible; change it, or take a smaller patch_size"),
        (["--seed", "-1"], "--seed must lie between 0 and 2**63 - 1, not -1"),
        (["--seed", "9223372036854775808"], "--seed must lie between 0 and 2**63 - 1, not 9223372036854775808"),
        (["--betas", "1 1"], "betas must lie in [0, 1)"),
        (["--encoder", "sparse"], "encoder takes visible, dense, not 'sparse'"),
        (["--recipe", "mae"], "unknown recipe 'mae'; nearest: fcmae"),
        (["--model", "vit"], "unknown model 'vit'"),
        (["--probe", "nowhere"], "nowhere: no such folder or table"),
    ],
)
def test_bad_options(colours, tmp_path, capsys, options, message):
    line = fails(capsys, "pretrain", colours, "--out", tmp_path / "run", *OPTIONS, *options)
    assert message in line
    assert not (tmp_path / "run").exists()


def test_bad_folders(tmp_path, capsys):
    assert "no such folder" in fails(capsys, "pretrain", tmp_path / "no", "--out", tmp_path / "run", *OPTIONS)
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "no images in this folder" in fails(capsys, "pretrain", folder, "--out", tmp_path / "run", *OPTIONS)
    (folder / "a.jpg").write_bytes(b"")
    (folder / "b.png").write_text("not an image")
    assert "none of the 2 images of a batch can be read" in fails(
        capsys, "pretrain", folder, "--out", tmp_path / "run", *OPTIONS
    )


def config(colours, **changes):
    base = PretrainConfig(
        image_size=64, epochs=3, batch_size=8, workers=0, base_lr=1e-2, decoder_dim=32, drop_path=0.1, probe_every=3
    )
    return base.override({"data": str(colours), **changes})


def test_resumed_run_is_the_undisturbed_run_bit_by_bit(colours, tmp_path):
    chosen = config(colours)
    train_task(Pretraining(chosen, read_images(colours)), tmp_path / "whole", resume=False, overwrite=False)
    broken = Trainer(
        Pretraining(chosen, read_images(colours)), Run.create(tmp_path / "broken", chosen, overwrite=False)
    )
    save = broken.save

    def save_and_stop():
        save()
        raise KeyboardInterrupt

    broken.save = save_and_stop
    with pytest.raises(KeyboardInterrupt):
        broken.fit()
    command = ["pretrain", str(colours), "--out", str(tmp_path / "broken"), "--resume"]
    assert cli.main(command) == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(first[key], second[key]) for key in nonempty(first))


def steps(chosen, colours, tmp_path, name):
    trainer = Trainer(Pretraining(chosen, read_images(colours)), Run.create(tmp_path / name, chosen, overwrite=False))
    trainer.model.train()
    batches = [batch for batch, _ in zip(trainer.loader, range(2), strict=False)]
    return torch.tensor([trainer.train_step(batch) for batch in batches])


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "dense"},
        pytest.param({"compile": True}, marks=pytest.mark.heavy),
        {"accumulate": 2},
        {"checkpointing": True},
        pytest.param({"checkpointing": True, "compile": True}, marks=pytest.mark.heavy),
        pytest.param({"checkpointing": True, "encoder": "dense"}, marks=pytest.mark.heavy),
    ],
)
def test_other_ways_to_the_same_losses(colours, tmp_path, changes):
    plain = {"drop_path": 0.0, "mask_ratio": 0.5}
    expected = steps(config(colours, **plain), colours, tmp_path, "plain")
    assert torch.allclose(steps(config(colours, **plain, **changes), colours, tmp_path, "b"), expected, rtol=1e-4)


def test_the_loss_falls_when_a_few_images_are_learned(colours, tmp_path):
    options = {"epochs": 15, "base_lr": 0.1, "drop_path": 0.0, "norm_pix_loss": False, "clip_grad": 1.0}
    chosen = config(colours, model=BYTE, **options)
    train_task(Pretraining(chosen, read_images(colours)), tmp_path / "run", resume=False, overwrite=False)
    losses = [row["loss"] for row in Run(tmp_path / "run").rows()]
    assert losses[-1] < 0.75 * losses[0]


def test_small_data_trains_a_pretrained_network_like_a_random_one(pretrained, run, colours, tmp_path):
    """And not by the lower rates that suit a trained classifier."""
    for name, init, muon in (("a", pretrained, 10.0), ("b", run, None)):
        options = [*FAST[: FAST.index("--muon-lr-scale")], "--epochs", "1", "--model", BYTE]
        command = ["train", "classify", str(colours), "--init", str(init), "--out", str(tmp_path / name), *options]
        assert cli.main(command) == 0
        assert Run(tmp_path / name).read_config()["muon_lr_scale"] == muon
