"""`convnext demo`: the whole story on scikit-learn's embedded digits, in minutes, on a CPU."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

from rich.console import Console

from convnext.api import pretrain, train_classifier
from convnext.data.image_set import read_split
from convnext.reports.html import html_page
from convnext.runs.directory import Run
from convnext.storage.files import whole_file
from convnext.tasks.evaluate import evaluate
from convnext.tasks.load import load

MODEL = "convnextv2_atto"
SHOWN = 12
EVERY = 29  # spreads the shown digits over the classes

NEXT = """\
Now on your own images, one folder for each class (FOLDER/train/CLASS/*.jpg and FOLDER/val/..., or FOLDER/CLASS/*.jpg):

  convnext pretrain FOLDER/train --model convnextv2_atto --image-size 128 --out runs/pretrained
  convnext train classify FOLDER --model convnextv2_atto --image-size 128 --init runs/pretrained --out runs/mine
  convnext evaluate runs/mine FOLDER
  convnext predict runs/mine IMAGE_OR_FOLDER
"""

DEMO_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a202c }
img { max-width: 100% } [alt^=Pre] { width: 16rem; image-rendering: pixelated }
.digit { width: 4.5rem; image-rendering: pixelated }
figure { display: inline-block; margin: .4rem; text-align: center; font-size: .85rem } b { color: #2b6cb0 }
"""


def run_demo(out: Path) -> None:
    """Pre-train on the digits without labels, train with them, evaluate, predict some; write `out/report.html`.

    The pre-training run lies beside `out`.
    """
    console = Console(highlight=False)
    pretrained = Path(f"{out.resolve()}-pretrained")
    console.rule("1 of 4: pre-train on 8x8 digits, without their labels")
    ours = (pretrained / "config.json").is_file() and Run(pretrained).read_config().get("recipe") == "fcmae_digits"
    pretrain("digits", out=pretrained, recipe="fcmae_digits", overwrite=ours, model=MODEL)

    console.rule("2 of 4: train on the digits, with their labels")
    train_classifier("digits", out=out, recipe="digits", overwrite=True, model=MODEL, init=str(pretrained))
    shutil.copy(pretrained / "reconstructions.png", out)

    console.rule("3 of 4: evaluate")
    metrics = evaluate(str(out), "digits", "val", workers=0)
    console.print(f"{metrics['top1']:.2f} % of {metrics['images']} held-out digits are right")

    console.rule("4 of 4: predict")
    answers = predict_some(out)
    for path, truth, label, score in answers:
        console.print(f"{path}  {label}  {score:.3f}  {'' if label == truth else f'is {truth}'}")

    write_page(out, metrics, answers)
    console.rule()
    console.print(f"Report: {out / 'report.html'}\n\n{NEXT}", soft_wrap=True)


def predict_some(out: Path) -> list[tuple[Path, str, str, float]]:
    """Save some held-out digits as PNG files, and label those: (path, truth, label, score)."""
    samples = read_split("digits", "val")
    predictor = load(out)
    (out / "images").mkdir(exist_ok=True)
    answers = []
    for index in range(0, SHOWN * EVERY, EVERY):
        path = out / "images" / f"digit-{index:03}.png"
        samples.open(index, "L").save(path)
        best = predictor(path)[0]
        truth = samples.classes[samples.targets[index]]  # type: ignore[index]  # one label an image
        answers.append((path, truth, best["label"], best["score"]))
    return answers


def write_page(out: Path, metrics: dict, answers: list[tuple[Path, str, str, float]]) -> None:
    """A page of the run's figures and pictures, for a browser."""
    figures = "".join(
        f'<h2>{title}</h2><img src="{name}" alt="{title}">'
        for name, title in [
            (
                "reconstructions.png",
                "Pre-training: a digit, what the encoder sees of it, and what it makes of the rest",
            ),
            ("curves.png", "Learning curves"),
            ("confusion.png", "Confusion matrix"),
            ("mistakes.png", "Mistakes"),
        ]
        if (out / name).is_file()
    )
    digits = "".join(
        f'<figure><img class="digit" src="images/{path.name}" alt="a digit"><figcaption>{html.escape(label)} '
        f"({score:.2f}){'' if label == truth else f', is {html.escape(truth)}'}</figcaption></figure>"
        for path, truth, label, score in answers
    )
    config = json.loads((out / "config.json").read_text())
    body = f"""<h1>ConvNeXt V2 on handwritten digits</h1>
<p><b>{metrics["top1"]:.2f} %</b> of {metrics["images"]} held-out digits are right, after {config["epochs"]} epochs of
{config["model"]}, pre-trained without labels.</p>
<h2>Predictions</h2>{digits}
{figures}
<h2>Next</h2><pre>{html.escape(NEXT)}</pre>"""
    with whole_file(out / "report.html") as path:
        path.write_text(html_page("convnext demo", DEMO_STYLE, body), encoding="utf-8")
