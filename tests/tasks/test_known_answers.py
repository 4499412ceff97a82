"""`convnext evaluate` and `convnext predict` with networks whose answers are known: every figure and file by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as codes
from making import evaluated, rows_of
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from stubs import (
    CATEGORY_IDS,
    CLASSES,
    Painted,
    area_of,
    painted,
    stored,
    stub_classifier,
    stub_depth_estimator,
    stub_detector,
    stub_segmenter,
)

from convnext import cli
from convnext.inference.draw import OPACITY, colours

SIZE = (100, 80)
RED = Painted(0, 0.8, (10, 20, 40, 60))
GREEN = Painted(1, 0.4, (60, 5, 90, 45))
BLUE = Painted(2, 0.6, (50, 60, 90, 75))
UNSEEN = Painted(0, 1.0, (0, 0, 30, 30))
PICTURES = {  # painted, and annotated
    "train": [([RED, GREEN], [RED, GREEN])],
    "val": [([RED, GREEN], [RED]), ([BLUE], [BLUE, UNSEEN]), ([], [])],
}

Use = Callable[..., Path]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Use:
    """Weights that answer as a stub of a task does."""
    return partial(stored, monkeypatch, tmp_path / "stub.safetensors")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In val, one of two red objects can be found, and the blue one; a green one is there that nobody annotated."""
    folder = tmp_path_factory.mktemp("objects")
    categories = [{"id": own, "name": name} for own, name in zip(CATEGORY_IDS, CLASSES, strict=True)]
    for part, pictures in PICTURES.items():
        (folder / part).mkdir()
        images, annotations = [], []
        for number, (there, annotated) in enumerate(pictures, start=1):
            painted(SIZE, *there).save(folder / part / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": SIZE[0], "height": SIZE[1]})
            for each in annotated:
                x0, y0, x1, y1 = each.box
                own = {"image_id": number, "category_id": CATEGORY_IDS[each.label], "id": len(annotations) + 1}
                shape = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
                annotations.append({**own, **shape, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}.json").write_text(json.dumps(content))
    return folder


def test_a_detectors_figures(use: Use, objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Red: half of two objects at full precision, that is 51 of COCO's 101 recalls; blue: all; green counts for
    nothing."""
    source = use("detect", partial(stub_detector, 80))
    found = evaluated(capsys, source, objects, "--out", tmp_path / "rows")
    precision, recall = 100 * (51 / 101 + 1) / 2, 100 * (1 / 2 + 1) / 2
    for kind in ("box", "mask"):
        for name in ("AP", "AP50", "AP75"):
            assert found[f"{kind}_{name}"] == pytest.approx(precision, abs=1e-3)
        for name in ("AR1", "AR10", "AR100"):
            assert found[f"{kind}_{name}"] == pytest.approx(recall, abs=1e-3)
    assert (found["split"], found["images"]) == ("val", 3)
    counts = ("objects", "found", "matched", "missed", "false")
    rows = {
        Path(row["path"]).stem: [int(row[name]) for name in counts] for row in rows_of(tmp_path / "rows/images.csv")
    }
    assert rows == {"1": [1, 1, 1, 0, 0], "2": [2, 1, 1, 1, 0], "3": [0, 0, 0, 0, 0]}
    outcomes = [
        (row["class"], row["outcome"], row["score"], [float(row[side]) for side in ("x0", "y0", "x1", "y1")])
        for row in rows_of(tmp_path / "rows/objects.csv")
    ]
    assert outcomes == [
        ("red", "matched", "0.8", [10, 20, 40, 60]),
        ("blue", "matched", "0.6", [50, 60, 90, 75]),
        ("red", "missed", "", [0, 0, 30, 30]),
    ]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # raised inside pycocotools
@pytest.mark.parametrize(("kind", "name"), [("bbox", "box"), ("segm", "mask")])
def test_pycocotools_measures_written_objects_alike(
    kind: str, name: str, use: Use, objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = use("detect", partial(stub_detector, 80))
    found = evaluated(capsys, source, objects)
    assert 0 < found[f"{name}_AP"] < 100
    written = ["--out", str(tmp_path / "set"), "--format", "coco", "--threshold", "0"]
    assert cli.main(["predict", str(source), str(objects / "val"), *written]) == 0
    truth, answers = COCO(str(objects / "val.json")), COCO(str(tmp_path / "set" / "annotations.json"))
    images = {row["file_name"]: row["id"] for row in truth.imgs.values()}
    ids = {row["name"]: row["id"] for row in truth.cats.values()}
    rows = [
        {
            "image_id": images[answers.imgs[row["image_id"]]["file_name"]],
            "category_id": ids[answers.cats[row["category_id"]]["name"]],
            "score": row["score"],
            **({"bbox": row["bbox"]} if kind == "bbox" else {"segmentation": answers.annToRLE(row)}),
        }
        for row in answers.anns.values()
    ]
    evaluation = COCOeval(truth, truth.loadRes(rows), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert found[f"{name}_AP"] == pytest.approx(100 * evaluation.stats[0], abs=1e-3)
    assert found[f"{name}_AR100"] == pytest.approx(100 * evaluation.stats[8], abs=1e-3)


def test_the_split_that_is_asked_for_is_measured(use: Use, objects: Path, capsys: pytest.CaptureFixture) -> None:
    """All of train is found; of both together two of three red objects, one of two found green ones is right."""
    source = use("detect", partial(stub_detector, 80))
    assert evaluated(capsys, source, objects, "--split", "train")["box_AP"] == pytest.approx(100)
    both = evaluated(capsys, source, objects, "--split", "all")
    assert both["images"] == 4
    assert both["box_AR100"] == pytest.approx(100 * (2 / 3 + 1 + 1) / 3, abs=1e-3)


def test_thresholds_are_fitted_and_used(use: Use, objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Each class's is the score of its last right object; without objects, a half."""
    source = use("detect", partial(stub_detector, 80))
    evaluated(capsys, source, objects, "--calibrate")
    image = objects / "train" / "1.png"
    for extra, expected in (([], ["red"]), (["--calibrated"], ["red"]), (["--threshold", "0.4"], ["red", "green"])):
        assert [each["category"] for each in predicted(capsys, source, image, *extra)[0]["objects"]] == expected
    evaluated(capsys, source, objects, "--calibrate", "--split", "train")
    (line,) = predicted(capsys, source, image, "--calibrated")
    assert [each["category"] for each in line["objects"]] == ["red", "green"]
    faint = RED._replace(score=0.6)  # more than green's threshold, less than its own
    painted(SIZE, faint, GREEN).save(tmp_path / "faint.png")
    (line,) = predicted(capsys, source, tmp_path / "faint.png", "--calibrated")
    assert [each["category"] for each in line["objects"]] == ["green"]


def predicted(capsys: pytest.CaptureFixture, *arguments: object) -> list[Any]:
    """Lines that `convnext predict --json` prints."""
    capsys.readouterr()
    assert cli.main(["predict", *map(str, arguments), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("tile", [[], ["--tile", "64"]])
def test_predicted_objects(tile: list[str], use: Use, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Printed, written, and drawn where they lie; in tiles as in one."""
    source = use("detect", partial(stub_detector, 64 if tile else 80))
    (tmp_path / "images").mkdir()
    pictures = {"a": [RED, GREEN], "b": [], "c": [BLUE]}
    for name, there in pictures.items():
        painted(SIZE, *there).save(tmp_path / "images" / f"{name}.png")
    out = tmp_path / "out"
    lines = predicted(capsys, source, tmp_path / "images", "--out", out, "--threshold", "0.3", *tile)
    assert [[each["category"] for each in line["objects"]] for line in lines] == [["red", "green"], [], ["blue"]]
    for line, there in zip(lines, pictures.values(), strict=True):
        for each, truth in zip(line["objects"], there, strict=True):
            x0, y0, x1, y1 = truth.box
            assert each["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0])
            assert each["score"] == pytest.approx(truth.score)
            assert each["category_id"] == CATEGORY_IDS[truth.label]
            assert np.array_equal(codes.decode(each["segmentation"]).astype(bool), area_of(truth, SIZE))
    rows = json.loads((out / "detections.json").read_text())
    assert [(row["image_id"], row["category"], row["drawing"]) for row in rows] == [
        (1, "red", "a.png"),
        (1, "green", "a.png"),
        (3, "blue", "c.png"),
    ]
    assert [row["bbox"] for row in rows] == [each["bbox"] for line in lines for each in line["objects"]]
    drawn, colour = np.asarray(Image.open(out / "a.png")), np.array(colours(2))
    level = np.array([204, 0, 0])
    assert drawn[40, 25].tolist() == ((1 - OPACITY) * level + OPACITY * colour[0]).astype(np.uint8).tolist()
    assert drawn[59, 10].tolist() == drawn[60, 40].tolist() == colour[0].tolist()
    assert drawn[70, 70].tolist() == [0, 0, 0]
    assert not np.asarray(Image.open(out / "b.png")).any()


def random_labels(height: int, width: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 3, (height // 5, width // 5), dtype=np.uint8).repeat(5, 0).repeat(5, 1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Images in their classes' colours, label maps that say another class of some, and the confusion matrix."""
    folder, matrix = tmp_path_factory.mktemp("scenes"), np.zeros((3, 3), dtype=int)
    for kind in ("images", "annotations"):
        (folder / kind / "val").mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    for seed, (height, width) in enumerate([(40, 60), (40, 40), (70, 40)]):
        shown = random_labels(height, width, seed)
        truth = shown.copy()
        truth[:10] = (truth[:10] + 1) % 3
        truth[:, :5] = 255
        Image.fromarray(255 * np.eye(3, dtype=np.uint8)[shown]).save(folder / "images" / "val" / f"{seed}.png")
        Image.fromarray(truth).save(folder / "annotations" / "val" / f"{seed}.png")
        for true, answer in zip(truth.flat, shown.flat, strict=True):
            if true != 255:
                matrix[true, answer] += 1
    return folder, matrix


VIEWS = {"whole": {}, "windows": {"window": 24, "stride": 10}}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("options", [[], ["--flip"], ["--scales", "1,2", "--flip"]])
def test_a_segmenters_figures(
    view: str, options: list[str], use: Use, scenes: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture
) -> None:
    """However it sees the images, for they are of one colour a pixel."""
    folder, matrix = scenes
    found = evaluated(capsys, use("segment", partial(stub_segmenter, 40, **VIEWS[view])), folder, *options)
    right, true, answered = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    assert found["mIoU"] == pytest.approx(100 * np.mean(right / (true + answered - right)), abs=1e-3)
    assert found["mean_accuracy"] == pytest.approx(100 * np.mean(right / true), abs=1e-3)
    assert found["pixel_accuracy"] == pytest.approx(100 * right.sum() / matrix.sum(), abs=1e-3)
    assert found["images"] == 3


@pytest.mark.parametrize(
    ("options", "scales", "mirrored"),
    [
        ([], [1.0], False),
        (["--flip"], [1.0], True),
        (["--scales", "0.5,2"], [0.5, 2.0], False),
        (["--scales", "1,2", "--flip"], [1.0, 2.0], True),
    ],
)
def test_a_segmenter_sees_the_views_that_are_asked_for(
    options: list[str],
    scales: list[float],
    mirrored: bool,
    use: Use,
    scenes: tuple[Path, np.ndarray],
    capsys: pytest.CaptureFixture,
) -> None:
    """Its figures do not tell, since of these pixels every view says the same."""
    segmenter = stub_segmenter(40)
    evaluated(capsys, use("segment", lambda: segmenter), scenes[0], *options)
    sizes, times = [(40, 60), (40, 40), (70, 40)], 2 if mirrored else 1
    assert segmenter.model.seen == [
        (round(height * scale), round(width * scale))
        for height, width in sizes
        for scale in scales
        for _ in range(times)
    ]


def test_predicted_label_maps(
    use: Use, scenes: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source, folder = use("segment", partial(stub_segmenter, 40)), scenes[0] / "images" / "val"
    lines = predicted(capsys, source, folder, "--out", tmp_path / "out")
    assert len(lines) == 3
    for line in lines:
        stem = Path(line["image"]).stem
        pixels = np.asarray(Image.open(line["image"]))
        labels = pixels.argmax(2)
        written = Image.open(tmp_path / "out" / f"{stem}.png")
        assert np.array_equal(np.asarray(written), labels)
        shares = {CLASSES[i]: (labels == i).mean() for i in range(3)}
        assert line["shares"] == pytest.approx(shares, abs=1e-6)
        assert list(line["shares"].values()) == sorted(line["shares"].values(), reverse=True)
        overlay = np.asarray(Image.open(tmp_path / "out" / f"{stem}-overlay.png"))[: len(pixels)]
        mixed = (1 - OPACITY) * pixels + OPACITY * np.array(colours(3))[labels]
        assert np.array_equal(overlay, mixed.astype(np.uint8))


SHARES = {"red": (200, 30, 20), "green": (60, 150, 40), "blue": (10, 90, 100)}


@pytest.fixture(scope="module")
def colour_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of each class in val, one of the red ones green; one of each in train."""
    folder = tmp_path_factory.mktemp("classes")
    for part, count in (("train", 1), ("val", 2)):
        for name, colour in SHARES.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                shown = SHARES["green"] if (part, name, number) == ("val", "red", 1) else colour
                Image.new("RGB", (40, 50), shown).save(folder / part / name / f"{number}.png")
    return folder


def test_a_classifiers_figures(use: Use, colour_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = use("classify", partial(stub_classifier, 32))
    found = evaluated(capsys, source, colour_folder, "--out", tmp_path / "rows")
    assert found["top1"] == pytest.approx(100 * 5 / 6, abs=1e-3)
    assert (found["split"], found["images"]) == ("val", 6)
    rows = {"/".join(Path(row["path"]).parts[-2:]): row for row in rows_of(tmp_path / "rows/images.csv")}
    assert {path: (row["truth"], row["answer"], row["right"]) for path, row in rows.items()} == {
        "blue/0.png": ("blue", "blue", "True"),
        "blue/1.png": ("blue", "blue", "True"),
        "green/0.png": ("green", "green", "True"),
        "green/1.png": ("green", "green", "True"),
        "red/0.png": ("red", "red", "True"),
        "red/1.png": ("red", "green", "False"),
    }
    assert float(rows["blue/0.png"]["score"]) == pytest.approx(0.5, abs=1e-3)
    assert float(rows["red/1.png"]["score"]) == pytest.approx(0.6, abs=1e-3)
    assert evaluated(capsys, source, colour_folder, "--split", "train")["top1"] == 100


def test_predicted_labels(use: Use, colour_folder: Path, capsys: pytest.CaptureFixture) -> None:
    source = use("classify", partial(stub_classifier, 32))
    lines = predicted(capsys, source, colour_folder / "train", "--top-k", "2")
    best = {Path(line["image"]).parent.name: line["labels"] for line in lines}
    assert best == {
        "red": [label("red", 0.8), label("green", 0.12)],
        "green": [label("green", 0.6), label("red", 0.24)],
        "blue": [label("blue", 0.5), label("green", 0.45)],
    }


def label(name: str, score: float) -> dict[str, Any]:
    return {"label": name, "score": pytest.approx(score, abs=1e-3)}


@pytest.fixture(scope="module")
def depths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In val, two images: the one's depths are 4 and 10 and known to be 5 and 8 in half of it each; the other's are
    right. In train, one of 5, known to be 4."""
    folder = tmp_path_factory.mktemp("depths")
    shown = {"a": np.full((40, 60), 40, dtype=np.uint8), "b": np.full((50, 40), 60, dtype=np.uint8)}
    known = {"a": np.full((40, 60), 5000, dtype=np.uint16), "b": np.full((50, 40), 6000, dtype=np.uint16)}
    shown["a"][:, 30:], known["a"][:, 30:] = 100, 8000
    known["b"][:10] = 0
    shown["c"], known["c"] = np.full((40, 40), 50, dtype=np.uint8), np.full((40, 40), 4000, dtype=np.uint16)
    for name, levels in shown.items():
        part = "train" if name == "c" else "val"
        for kind, pixels in (("images", levels[..., None].repeat(3, 2)), ("depth", known[name])):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / part / f"{name}.png")
    return folder


def test_a_depth_estimators_figures(use: Use, depths: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of the first, errors are 1 of 5 and 2 of 8, a quarter too small and too large; means over the two images."""
    source = use("depth", partial(stub_depth_estimator, 40))
    found = evaluated(capsys, source, depths, "--out", tmp_path / "rows")
    expected = {
        "abs_rel": (0.2 + 0.25) / 2 / 2,
        "mae": 1.5 / 2,
        "rmse": (2.5**0.5) / 2,
        "delta1": (0 + 100) / 2,
        "delta2": 100,
        "delta3": 100,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert (found["split"], found["images"]) == ("val", 2)
    rows = {Path(row["path"]).stem: row for row in rows_of(tmp_path / "rows/images.csv")}
    assert {name: int(row["pixels"]) for name, row in rows.items()} == {"a": 2400, "b": 1600}
    assert float(rows["a"]["mae"]) == pytest.approx(1.5, abs=1e-3)
    assert float(rows["b"]["mae"]) == pytest.approx(0, abs=1e-3)
    trained_on = evaluated(capsys, source, depths, "--split", "train")
    assert (trained_on["split"], trained_on["images"]) == ("train", 1)
    assert trained_on["abs_rel"] == pytest.approx(0.25, abs=1e-3)
