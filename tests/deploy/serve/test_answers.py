"""Answers over http: each the predictor's to the last digit, in every form, alone and among others."""

from __future__ import annotations

import base64
import io
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as codes
from PIL import Image
from serving import Server, forms_of
from vacuous import nonempty

import convnext


def as_json(task: str, predictor: Any, image: Any, **options: Any) -> dict[str, Any]:
    """The predictor's own answer, in the form of the server's."""
    found = predictor(image, **options)
    if task == "classify":
        return {"labels": found}
    height, width = predictor.read(image).size[::-1]
    size = {"width": width, "height": height}
    if task == "detect":
        return {**size, "objects": found}
    if task == "segment":
        return {**size, "map": found}
    return {**size, "depths": found}


def decoded(task: str, answer: dict[str, Any]) -> dict[str, Any]:
    """The server's answer with masks and maps as arrays."""
    if task == "detect":
        objects = [{**each, "mask": mask_of(each["mask"])} if "mask" in each else each for each in answer["objects"]]
        return {**answer, "objects": objects}
    if task == "segment":
        labels = np.full((answer["height"], answer["width"]), 9999, dtype=np.uint16)
        for each in nonempty(answer["segments"]):
            inside = mask_of(each["mask"])
            labels[inside] = each["class"]
            assert each["share"] == inside.mean()
        return {"width": answer["width"], "height": answer["height"], "map": labels}
    if task == "depth":
        shape = (answer["height"], answer["width"])
        depths = np.frombuffer(base64.b64decode(answer["depths"]), dtype="<f4").reshape(shape)
        assert answer["least"] == depths.min()
        assert answer["most"] == depths.max()
        return {"width": answer["width"], "height": answer["height"], "depths": depths}
    return answer


def mask_of(code: dict[str, Any]) -> np.ndarray:
    return codes.decode(code).astype(bool)


@pytest.fixture(scope="module")
def predictors(trained) -> Iterator[dict[str, Any]]:
    """The same models here: from their second image on, and others as at the first image of each shape."""
    found = {task: convnext.load(source, device="cpu") for task, (source, _) in trained.items()}
    for task in ("classify", "embed"):
        for _ in range(2):
            found[task].embed(trained[task][1][0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convnext.inference.backends.openvino.CompiledModel.makes_more", False)
        yield found


@pytest.mark.parametrize("task", ["classify", "detect", "segment", "depth"])
def test_an_answer_is_the_predictors_to_the_last_digit(task: str, server: Server, trained, predictors) -> None:
    options = {"classify": {"top_k": 2}, "detect": {"threshold": 0.0}}.get(task, {})
    for path in nonempty(trained[task][1][:3]):
        expected = as_json(task, predictors[task], path, **options)
        for form, request in nonempty(forms_of([path.read_bytes()], model=task, **options).items()):
            found = server.client.post("/v1/predict", **request)
            assert found.status_code == 200, (form, found.text)
            assert found.json()["model"] == task
            np.testing.assert_equal(decoded(task, found.json()["answers"][0]), expected, form)


@pytest.mark.parametrize("task", ["classify", "detect", "segment", "embed"])
def test_embeddings_are_the_predictors(task: str, server: Server, trained, predictors) -> None:
    paths = trained[task][1][:3]
    expected = [predictors[task].embed(path) for path in paths]
    for request in forms_of([path.read_bytes() for path in paths], model=task).values():
        found = server.client.post("/v1/embed", **request).json()["embeddings"]
        np.testing.assert_array_equal(np.array(found, dtype=np.float32), expected)


def test_an_answer_does_not_depend_on_its_neighbours(server: Server, trained, predictors) -> None:
    """Requests of all tasks at once, of one image and of several, in an order of chance."""
    rng, asked = random.Random(0), []
    tasks = ["classify", "detect", "segment", "depth"]
    alone = {
        (task, path): server.post("/v1/predict", path.read_bytes(), model=task).json()["answers"][0]
        for task in tasks
        for path in trained[task][1]
    }
    for _ in range(120):
        task = rng.choice([*tasks, "classify", "classify", "classify"])
        asked.append((task, rng.choices(trained[task][1], k=rng.choice([1, 1, 2, 5]))))

    def ask(task: str, paths: list[Any]) -> Any:
        request = forms_of([path.read_bytes() for path in paths], model=task)["multipart"]
        while (found := server.client.post("/v1/predict", **request)).status_code == 503:  # busy
            time.sleep(float(found.headers["Retry-After"]))
        return found

    with ThreadPoolExecutor(16) as pool:
        for (task, paths), found in nonempty(zip(asked, pool.map(lambda each: ask(*each), asked), strict=True)):
            assert found.status_code == 200, found.text
            assert found.json()["answers"] == [alone[task, path] for path in paths]


def test_options_choose_what_is_answered(server: Server, trained) -> None:
    content = trained["classify"][1][0].read_bytes()
    for count in (1, 2, 3):
        found = server.post("/v1/predict", content, model="classify", top_k=count).json()["answers"][0]["labels"]
        assert len(found) == count
        assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    content = trained["detect"][1][0].read_bytes()
    every = server.post("/v1/predict", content, model="detect", threshold=0).json()["answers"][0]["objects"]
    assert every
    least = every[len(every) // 2]["score"]
    some = server.post("/v1/predict", content, model="detect", threshold=least).json()["answers"][0]["objects"]
    assert some == [each for each in every if each["score"] >= least]


def test_what_an_answer_rests_on_is_a_picture(server: Server, trained) -> None:
    for task in ("classify", "segment"):
        content = trained[task][1][0].read_bytes()
        before = server.post("/v1/predict", content, model=task).json()["answers"]
        found = server.post("/v1/explain", content, model=task).json()["explanations"][0]
        picture = Image.open(io.BytesIO(base64.b64decode(found["picture"])))
        assert picture.mode == "RGB"
        assert found["label"] in server.client.get(f"/v1/models/{task}").json()["labels"]
        assert server.post("/v1/predict", content, model=task).json()["answers"] == before
    red = trained["classify"][1][0].read_bytes()
    found = server.post("/v1/explain", red, model="classify", label="green").json()["explanations"][0]
    assert found["label"] == "green"
    assert server.post("/v1/explain", red, model="classify", label="mauve").status_code == 400
    assert server.post("/v1/explain", red, model="depth").status_code == 400


def test_models_are_described(server: Server, trained) -> None:
    found = {each["name"]: each for each in server.client.get("/v1/models").json()["models"]}
    assert list(found) == [*trained]
    assert found["classify"]["classes"] == 3
    assert found["classify"]["answers"] == ["predict", "embed", "explain"]
    assert found["embed"]["answers"] == ["embed"]
    assert found["depth"]["answers"] == ["predict", "embed"]
    assert "labels" not in found["classify"]
    assert "thresholds" not in found["detect"]
    details = {name: server.client.get(f"/v1/models/{name}").json() for name in ("classify", "detect")}
    assert details["classify"]["labels"] == ["blue", "green", "red"]
    assert details["classify"]["thresholds"] == []
    assert details["detect"]["thresholds"] == convnext.load(trained["detect"][0]).least() == [0.5, 0.5]
    card = server.client.get("/v1/models/classify/card")
    assert card.text == (trained["classify"][0] / "README.md").read_text()
    assert server.client.get("/v1/models/embed/card").status_code == 404
    samples = server.client.get("/v1/samples").json()["samples"]
    assert len(samples) == 4
    assert server.client.get("/v1/samples/0").content == (trained["classify"][1][0].parent / samples[0]).read_bytes()


def test_what_is_done_is_counted(server: Server, trained) -> None:
    def count() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        name = 'convnext_images_total{kind="predict",model="classify"} '
        return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0)

    before = count()
    images = [path.read_bytes() for path in trained["classify"][1][:3]]
    server.client.post("/v1/predict", **forms_of(images, model="classify")["multipart"])
    assert count() == before + 3
    logged = [json.loads(line) for line in server.lines()]
    last = next(line for line in reversed(logged) if line.get("route") == "/v1/predict")
    assert last["status"] == 200
    assert last["images"] == 3
    assert last["bytes"] > sum(map(len, images))
    assert last["model"] == "classify"


@pytest.mark.heavy
def test_exports_are_served(trained, tmp_path: Path) -> None:
    run, images = trained["classify"]
    file = convnext.export(run, tmp_path / "x.onnx").path
    own: Any = convnext.load(file, backend="onnxruntime")
    with Server(f"mine={file}", "--workers", 1, "--backend", "onnxruntime") as running:
        for path in nonempty(images[:4]):
            found = running.post("/v1/predict", path.read_bytes()).json()
            assert found["model"] == "mine"
            assert found["answers"][0]["labels"] == own(path)
        assert running.client.get("/v1/models").json()["models"][0]["answers"] == ["predict", "embed"]
        assert running.stop() == 0
