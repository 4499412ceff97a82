"""Classification end to end from a table, with several labels, and from other weights."""

import json

import torch
from making import FAST, make_folder
from safetensors.torch import load_file
from vacuous import nonempty

import convnext
from convnext import cli
from convnext.data.image_set import ImageSet
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.classify.task import balanced_weights


def rows(folder, split):
    return [(path, path.parent.name) for path in sorted((folder / split).rglob("*.png"))]


def test_several_labels_an_image(colours, tmp_path, capsys):
    table = tmp_path / "table.csv"
    lines = ["path,labels,split"]
    for split in ("train", "val"):
        for path, name in rows(colours, split):
            lines.append(f"{path},{name}|{'warm' if name == 'red' else 'cold'},{split}")
    table.write_text("\n".join(lines) + "\n")
    out = tmp_path / "run"
    options = [*FAST, "--multi-label", "--epochs", "10", "--class-weights", "balanced"]
    assert cli.main(["train", "classify", str(table), "--out", str(out), *options]) == 0
    assert json.loads((out / "result.json").read_text())["mAP"] > 80

    predictor = convnext.load(out)
    answer = {label["label"]: label["score"] for label in predictor(colours / "val/red/0.png")}
    assert answer.keys() == {"blue", "green", "red", "warm", "cold"}
    assert sum(answer.values()) > 1.01  # independent scores
    assert cli.main(["evaluate", str(out), str(table)]) == 0


def test_balanced_weights():
    single = ImageSet(classes=("a", "b"), targets=[0, 0, 0, 1], multi_label=False, sources=["x"] * 4)
    torch.testing.assert_close(balanced_weights(single), torch.tensor([4 / 6, 2.0]))
    several = ImageSet(classes=("a", "b"), targets=[(0,), (0, 1), (0,), ()], multi_label=True, sources=["x"] * 4)
    torch.testing.assert_close(balanced_weights(several), torch.tensor([1 / 3, 3.0]))


def test_a_class_of_every_image_is_learnt_too():
    every = ImageSet(classes=("a", "b"), targets=[(0,), (0, 1), (0,), (0,)], multi_label=True, sources=["x"] * 4)
    torch.testing.assert_close(balanced_weights(every), torch.tensor([1 / 4, 3.0]))


def test_a_run_s_weights_start_another(run, colours, tmp_path, capsys):
    out = tmp_path / "next"
    arguments = ["train", "classify", str(colours), "--out", str(out), *FAST, "--init", str(run), "--freeze-backbone"]
    assert cli.main(arguments) == 0
    first, second = load_file(run / "model.safetensors"), load_file(out / "model.safetensors")
    backbone = [key for key in first if not key.startswith("head.")]
    assert all(torch.equal(first[key], second[key]) for key in nonempty(backbone))
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_another_number_of_classes_gets_a_new_head_and_is_told(run, tmp_path, capsys, caplog):
    folder = make_folder(tmp_path / "two")
    for split in ("train", "val"):
        for path in (folder / split / "red").iterdir():
            path.unlink()
        (folder / split / "red").rmdir()
    with caplog.at_level("INFO", logger="convnext"):
        status = cli.main(["train", "classify", str(folder), "--out", str(tmp_path / "run"), *FAST, "--init", str(run)])
    assert status == 0
    assert "head of 3 classes is replaced by a fresh one of 2" in caplog.text


def test_options_of_the_run_are_kept(run):
    config = ClassifyConfig.from_dict(json.loads((run / "config.json").read_text()))
    assert (config.recipe, config.image_size, config.epochs, config.batch_size) == ("small_data", 32, 2, 8)


def test_it_is_evaluated_every_so_many_epochs_and_after_the_last(colours, tmp_path):
    out = tmp_path / "run"
    options = [*FAST, "--epochs", "3", "--eval-every", "2"]
    assert cli.main(["train", "classify", str(colours), "--out", str(out), *options]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [("top1" in row, "val_loss" in row) for row in rows] == [(False, False), (True, True), (True, True)]
    assert (out / "curves.png").exists()


def test_classes_named_by_wordnet_ids_are_answered_in_words(tmp_path):
    folder = make_folder(tmp_path / "colours")
    codes = {"blue": "n01440764", "green": "n02102040", "red": "n00005787"}  # the last is one of 22K's alone
    for split in ("train", "val"):
        for name, code in codes.items():
            (folder / split / name).rename(folder / split / code)
    assert cli.main(["train", "classify", str(folder), "--out", str(tmp_path / "run"), *FAST]) == 0
    predictor = convnext.load(tmp_path / "run")
    assert predictor.classes == sorted(codes.values())
    answers = predictor(folder / "val/n01440764/0.png")
    assert {answer["label"] for answer in answers} == {
        "tench, Tinca tinca", "English springer, English springer spaniel", "benthos",
    }  # fmt: skip
    assert cli.main(["evaluate", str(tmp_path / "run"), str(folder)]) == 0
