"""Every kind of bad input gets one clear line on stderr and exit status 2."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from making import FAST, fails, make_folder
from PIL import Image
from sitecustomize import BYTE

import convnext
from convnext import cli


def train(folder: object, out: Path, *more: str) -> list[object]:
    return ["train", "classify", folder, "--out", out, *FAST, *more]


def huge_png(path: Path, side: int = 30_000) -> None:
    """A PNG whose header says side×side; its pixels are not there."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))


def test_unknown_model(capsys, folder, tmp_path):
    line = fails(capsys, *train(folder, tmp_path / "run", "--model", "convnextv2_atom"))
    assert "unknown model 'convnextv2_atom'; nearest: convnextv2_atto" in line
    assert not (tmp_path / "run").exists()


def test_missing_folder(capsys, tmp_path):
    assert "nowhere" in fails(capsys, *train(tmp_path / "nowhere", tmp_path / "run"))


def test_empty_folder(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails(capsys, *train(tmp_path / "empty", tmp_path / "run"))


def test_folder_without_classes(capsys, tmp_path):
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "flat" / "a.png")
    assert "class" in fails(capsys, *train(tmp_path / "flat", tmp_path / "run"))


def test_class_in_val_that_train_lacks(capsys, folder, tmp_path):
    (folder / "val" / "purple").mkdir()
    Image.new("RGB", (40, 40)).save(folder / "val" / "purple" / "a.png")
    assert "purple" in fails(capsys, *train(folder, tmp_path / "run"))


def test_label_outside_range(capsys, folder, tmp_path):
    table = folder / "table.csv"
    (folder / "classes.txt").write_text("blue\ngreen\n")
    table.write_text("path,label\ntrain/blue/0.png,0\ntrain/green/0.png,1\ntrain/red/0.png,2\n")
    line = fails(capsys, *train(table, tmp_path / "run"))
    assert "2" in line
    assert "range" in line


@pytest.mark.parametrize("kind", ["zero", "truncated", "text", "huge"])
def test_unreadable_image(capsys, folder, tmp_path, run, kind):
    bad = folder / "train" / "red" / "0.png"
    if kind == "zero":
        bad.write_bytes(b"")
    elif kind == "truncated":
        bad.write_bytes(bad.read_bytes()[:600])
    elif kind == "text":
        bad = bad.with_name("0.jpg")
        bad.write_text("not an image")
    else:
        huge_png(bad)
    line = fails(capsys, "predict", run, bad)
    assert str(bad) in line
    assert {"zero": "zero bytes", "truncated": "truncated", "text": "not an image", "huge": "30000"}[kind] in line

    out = tmp_path / "run"
    assert cli.main([str(arg) for arg in train(folder, out)]) == 0  # training goes on without it
    listed = (out / "unreadable.txt").read_text().splitlines()
    assert len(listed) == 1
    assert str(bad) in listed[0]


def test_checkpoint_of_another_architecture(capsys, folder, tmp_path):
    from torchvision.models import resnet18

    torch.save({"model": resnet18().state_dict()}, tmp_path / "resnet.pth")
    line = fails(capsys, *train(folder, tmp_path / "run", "--init", str(tmp_path / "resnet.pth")))
    assert "not a ConvNeXt" in line
    assert "not a ConvNeXt" in fails(capsys, "predict", tmp_path / "resnet.pth", folder)


def test_checkpoint_of_another_size(capsys, folder, tmp_path, run):
    line = fails(capsys, *train(folder, tmp_path / "new", "--model", "convnextv2_pico", "--init", str(run)))
    assert BYTE in line
    assert "convnextv2_pico" in line
    assert not (tmp_path / "new").exists()


class Malicious:
    def __reduce__(self) -> tuple:
        return (print, ("this code must never run",))


def test_pickle_with_code(capsys, folder, tmp_path):
    with open(tmp_path / "evil.pth", "wb") as file:
        pickle.dump({"model": Malicious()}, file)
    line = fails(capsys, "predict", tmp_path / "evil.pth", folder)
    assert "run code" in line
    assert "must never run" not in capsys.readouterr().out


def test_missing_source(capsys, folder, tmp_path):
    assert "nothing.pt" in fails(capsys, "predict", tmp_path / "nothing.pt", folder)


def test_missing_image(capsys, run, tmp_path):
    assert "no such file" in fails(capsys, "predict", run, tmp_path / "nothing.jpg")


@pytest.mark.parametrize(
    "command",
    [
        "predict RUN LONG",
        "embed RUN LONG --out OUT.npy",
        "evaluate RUN LONG",
        "evaluate RUN DATA --exclude LONG",
        "train classify LONG --out OUT",
        "train detect LONG --out OUT",
        "train classify DATA --out LONG",
        "pretrain LONG --out OUT",
        "train segment LONG --check",
        "check LONG",
        "pack LONG --out OUT",
        "runs LONG",
        "index LONG",
        "analyze collapse RUN LONG --out OUT",
    ],
)
def test_a_name_that_no_file_can_have_is_a_line(capsys, run, colours, tmp_path, command):
    places = {"RUN": run, "LONG": "a" * 300, "DATA": colours, "OUT": tmp_path / "out"}
    assert "aaa" in fails(capsys, *[places.get(word, word) for word in command.split()])


def test_unwritable_output(capsys, folder, tmp_path):
    (tmp_path / "file").write_text("")
    line = fails(capsys, *train(folder, tmp_path / "file" / "run"))
    assert "cannot write" in line
    assert str(tmp_path / "file") in line


def test_resume_without_a_run(capsys, folder, tmp_path):
    assert "no run to resume" in fails(capsys, *train(folder, tmp_path / "none", "--resume"))


def test_existing_run_needs_resume_or_overwrite(capsys, colours, run, tmp_path):
    before = (run / "model.safetensors").read_bytes()
    assert "--resume" in fails(capsys, *train(colours, run))
    assert (run / "model.safetensors").read_bytes() == before


def test_overwrite_spares_what_is_no_run(capsys, colours, folder):
    assert "is not a run" in fails(capsys, *train(colours, folder, "--overwrite"))
    assert (folder / "train" / "red" / "0.png").is_file()


def test_resume_with_other_options(capsys, colours, run):
    line = fails(capsys, "train", "classify", colours, "--out", run, "--resume", "--epochs", "9")
    assert "begun with --epochs 2, not 9; --resume changes only --workers, --device" in line
    assert "--base-lr" in line


def test_evaluate_on_other_classes(capsys, folder, run):
    (folder / "val" / "red").rename(folder / "val" / "purple")
    assert "purple" in fails(capsys, "evaluate", run, folder)


def test_options_are_called_as_they_were_given(capsys, colours, run, tmp_path):
    out = tmp_path / "run"
    assert "--base-lr takes a number, not 'x'" in fails(capsys, *train(colours, out, "--base-lr", "x"))
    assert "convnext: base_lr takes a number" in fails(capsys, *train(colours, out, "--set", "base_lr=x"))
    assert "--drop-path must lie in" in fails(capsys, *train(colours, out, "--drop-path", "1"))
    assert "--scales takes numbers with commas" in fails(capsys, "evaluate", run, colours, "--scales", "x")
    with pytest.raises(convnext.InputError, match=r"^drop_path must lie in"):
        convnext.train_classifier(colours, out=out, drop_path=1.0)


def test_bad_option(capsys, colours, tmp_path):
    assert "--epochs takes a whole number, not 'many'" in fails(
        capsys, *train(colours, tmp_path / "run", "--epochs", "many")
    )
    assert "there is no option --epoch-count; nearest: --epochs" in fails(
        capsys, *train(colours, tmp_path / "run", "--epoch-count", "3")
    )


def test_predict_json_of_one_image_is_the_list_hf_pipelines_return(capsys, run, colours):
    capsys.readouterr()
    assert cli.main(["predict", str(run), str(colours / "val/red/0.png"), "--json", "--top-k", "2"]) == 0
    labels = json.loads(capsys.readouterr().out)
    assert len(labels) == 2
    assert labels[0].keys() == {"label", "score"}
    assert {label["label"] for label in labels} <= {"blue", "green", "red"}
    assert labels[0]["score"] >= labels[1]["score"]


def test_predict_goes_on_past_an_unreadable_image(capsys, run, folder):
    (folder / "val/red/1.png").write_bytes(b"")
    capsys.readouterr()
    assert cli.main(["predict", str(run), str(folder / "val"), "--json"]) == 1
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert len(rows) == 12
    assert ["error" in row for row in rows].count(True) == 1
    assert "1 of 12 images could not be read" in captured.err


def test_predict_takes_folders_globs_and_files(capsys, run, colours):
    capsys.readouterr()
    inputs = [str(colours / "val/red"), str(colours / "val/*/1.png"), str(colours / "val/blue/0.png")]
    assert cli.main(["predict", str(run), *inputs, "--json"]) == 0
    names = [json.loads(line)["image"] for line in capsys.readouterr().out.splitlines()]
    assert len(names) == 4 + 3 + 1
    assert names[-1] == inputs[-1]


@pytest.mark.parametrize("form", ["image", "paths"])
def test_predict_reads_standard_input(capsys, monkeypatch, run, colours, form):
    path = colours / "val/red/0.png"
    content = path.read_bytes() if form == "image" else f"{path}\n{path}\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    capsys.readouterr()
    assert cli.main(["predict", str(run), "-", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    if form == "image":
        assert [label.keys() for label in lines[0]] == [{"label", "score"}] * 3
    else:
        assert [line["image"] for line in lines] == [str(path)] * 2


def test_evaluate_gives_the_trainer_s_last_figure_and_predict_agrees(capsys, run, colours):
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), str(colours), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    stored = json.loads((run / "result.json").read_text())
    assert {name: metrics[name] for name in stored} == stored
    assert metrics["images"] == 12

    cli.main(["predict", str(run), str(colours / "val"), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    right = sum(Path(row["image"]).parent.name == row["labels"][0]["label"] for row in rows)
    assert 100 * right / len(rows) == pytest.approx(metrics["top1"], abs=1e-4)


def test_models_lists_the_family(capsys):
    assert cli.main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(convnext.list_models())
    assert rows["convnextv2_atto"]["parameters"] == 3_708_400
    assert "convnextv2_atto_1k_224_fcmae" in rows["convnextv2_atto"]["weights"]


def test_models_lists_weights_with_their_licences(capsys):
    assert cli.main(["models", "--weights", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    tiny = rows["convnext_tiny.dinov3_lvd1689m"]
    assert (tiny["licence"], tiny["source"], tiny["image_size"], tiny["width"]) == ("DINOv3", "Meta", 224, 768)
    assert "military" in tiny["restriction"]
    assert rows["convnext_tiny_1k_224"]["restriction"] == ""
    assert rows["convnextv2_tiny_1k_224"]["figures"] == {"top-1": 83.0}

    assert cli.main(["models", "--licence", "cc-by-nc-4.0", "--task", "pretrain"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "task", "pixels", "answer", "licence", "by", "figures"]
    names = [line.split()[0] for line in lines[: lines.index("")]]
    assert names == [name for name, row in rows.items() if "fcmae" in name]
    assert lines[-1] == "  CC-BY-NC-4.0: not for commercial use"
    assert cli.main(["models", "--licence", "MIT"]) == 0
    assert "licences that hold" not in capsys.readouterr().out


def test_models_of_no_licence_and_no_task(capsys):
    assert "nearest: MIT" in fails(capsys, "models", "--licence", "MITT")
    assert "nearest: classify" in fails(capsys, "models", "--task", "clasify")


def test_options_of_measuring_are_for_measuring(capsys):
    assert "--image-size is for --measure" in fails(capsys, "models", "--image-size", "64")
    assert "--licence lists published weights" in fails(capsys, "models", "--measure", "--licence", "MIT")


def test_doctor_tells_versions_and_paths(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["torch"] == torch.__version__
    assert facts.keys() >= {"device used", "torch.compile", "CPU inference", "CPU training", "threads"}
    assert facts.keys() >= {"kernels kept in", "shards kept in", "shared memory", "disk free here"}


def test_doctor_says_what_others_can_change(tmp_path, monkeypatch):
    from convnext.cli import doctor_facts

    monkeypatch.setenv("HOME", str(tmp_path))
    assert "not there yet" in doctor_facts.kernels_kept()
    kernels = tmp_path / ".cache" / "convnext" / "kernels"
    kernels.mkdir(parents=True)
    kernels.chmod(0o700)
    assert doctor_facts.kernels_kept() == f"{kernels}, this user's alone"
    kernels.chmod(0o777)
    assert doctor_facts.kernels_kept() == f"{kernels} can be written by others: built for each process alone"


def test_any_name_of_a_class_gets_its_report(tmp_path, capsys):
    """A formula to matplotlib, and bytes that are no UTF-8: the report failed after hours of training."""
    data = make_folder(tmp_path / "data")
    for part in ("train", "val"):
        (data / part / "red").rename(data / part / "$\\frac$")
        os.rename(os.fsencode(data / part / "green"), os.fsencode(data / part) + b"/caf\xe9")
    run = tmp_path / "run"
    assert cli.main(["train", "classify", str(data), "--out", str(run), *FAST, "--epochs", "1"]) == 0
    assert (run / "README.md").is_file()
    assert (run / "confusion.png").is_file()
    image = next((data / "val" / "blue").iterdir())
    assert cli.main(["predict", str(run), str(image)]) == 0


def test_help_and_import_load_no_torch():
    code = (
        "import sys, convnext.cli\n"
        "try: convnext.cli.main(['train', 'classify', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_predict_loads_nothing_it_does_not_need(run, colours):
    code = (
        "import sys, torch, convnext.cli\n"
        "from convnext.deploy.benchmark_row import outputs_of\n"
        f"convnext.cli.main(['predict', {str(run)!r}, {str(colours / 'val/red/0.png')!r}])\n"
        f"outputs_of(convnext.load({str(run)!r}), torch.zeros(1, 3, 32, 32))\n"  # what `benchmark` measures
        "heavy = {'torchvision', 'timm', 'sklearn', 'matplotlib', 'pyarrow', 'tensorboard', 'torch._dynamo'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_runs_are_listed_and_compared_without_pytorch(run: Path) -> None:
    commands = [["runs", str(run.parent)], ["compare", str(run), str(run)]]
    code = f"import sys, convnext.cli\nfor command in {commands}:\n    assert convnext.cli.main(command) == 0\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_options_that_have_one_value_are_not_offered(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", task, "--help-all"])
    said = capsys.readouterr().out
    assert "--fpn-dim" in said
    assert "--in-chans" not in said
    assert "--stem-patch" not in said
