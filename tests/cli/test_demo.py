"""The demo's own code, with one epoch of a small network; `make demo` is the real thing."""

import functools
import json

from sitecustomize import BYTE
from sklearn import datasets

from convnext import cli
from convnext.cli import demo_run
from convnext.tasks.recipes import RECIPES


def short(recipe):
    @functools.wraps(recipe)
    def one_epoch(model):
        return recipe(model).override({"epochs": 1})

    return one_epoch


def test_demo_tells_the_story(tmp_path, monkeypatch, capsys):
    for name in ("digits", "fcmae_digits"):
        monkeypatch.setitem(RECIPES, name, short(RECIPES[name]))
    monkeypatch.setattr(demo_run, "MODEL", BYTE)
    out = tmp_path / "demo"
    assert cli.main(["demo", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "convnext train classify FOLDER" in shown
    assert json.loads((tmp_path / "demo-pretrained" / "result.json").read_text())["loss"] > 0
    assert json.loads((out / "result.json").read_text())["top1"] > 20  # chance is 10
    page = (out / "report.html").read_text()
    assert page.count('class="digit"') == demo_run.SHOWN
    assert all((out / name).is_file() for name in ("reconstructions.png", "curves.png", "confusion.png"))
    images = sorted((out / "images").iterdir())
    assert cli.main(["predict", str(out), str(images[0]), "--json"]) == 0
    few = datasets.load_digits()
    few.images, few.target = few.images[:300], few.target[:300]
    monkeypatch.setattr(datasets, "load_digits", lambda: few)
    monkeypatch.setattr(demo_run, "EVERY", 3)
    assert cli.main(["demo", "--out", str(out)]) == 0  # a second demo, of few digits, replaces the first
