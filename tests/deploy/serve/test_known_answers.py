"""What a server answers about images whose objects, pixels and labels are known."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as codes
from PIL import Image
from stubs import Painted, area_of, painted, stored, stub_classifier, stub_detector, stub_segmenter

from convnext.deploy.serve.served import ServedModel

SIZE = (100, 80)
RED = Painted(0, 0.8, (10, 20, 40, 60))
GREEN = Painted(1, 0.4, (60, 5, 90, 45))

Serve = Callable[..., ServedModel]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serve:
    """A served model that answers as a stub of a task does."""

    def make(task: str, stub: Callable[[], Any]) -> ServedModel:
        return ServedModel("stub", str(stored(monkeypatch, tmp_path / "stub.safetensors", task, stub)), 10**6)

    return make


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def answers(model: ServedModel, *images: Image.Image, **options: Any) -> list[dict[str, Any]]:
    replies = model.answer("predict", [png(image) for image in images], options)
    assert [reply.status for reply in replies] == [200] * len(images)
    return [json.loads(reply.content) for reply in replies]


def test_objects(serve: Serve) -> None:
    model = serve("detect", partial(stub_detector, 80))
    pictures = [painted(SIZE, RED, GREEN), painted((80, 90))]
    for options, expected in (({}, [RED]), ({"threshold": 0.4}, [RED, GREEN]), ({"threshold": 0.9}, [])):
        own, empty = answers(model, *pictures, **options)
        assert empty == {"width": 80, "height": 90, "objects": []}
        assert (own["width"], own["height"]) == SIZE
        assert len(own["objects"]) == len(expected)
        for each, truth in zip(own["objects"], expected, strict=True):
            assert each["label"] == ("red", "green")[truth.label]
            assert each["score"] == pytest.approx(truth.score)
            assert each["box"] == pytest.approx(truth.box)
            assert np.array_equal(codes.decode(each["mask"]).astype(bool), area_of(truth, SIZE))


def test_segments(serve: Serve) -> None:
    model = serve("segment", partial(stub_segmenter, 80))
    picture = Image.new("RGB", SIZE, "blue")
    picture.paste((255, 0, 0), (20, 10, 30, 30))
    (found,) = answers(model, picture)
    blue, red = found["segments"]
    assert (blue["label"], blue["class"], blue["share"]) == ("blue", 2, 1 - 200 / 8000)
    assert (red["label"], red["class"], red["share"]) == ("red", 0, 200 / 8000)
    inside = np.zeros(SIZE[::-1], dtype=bool)
    inside[10:30, 20:30] = True
    assert np.array_equal(codes.decode(red["mask"]).astype(bool), inside)
    assert np.array_equal(codes.decode(blue["mask"]).astype(bool), ~inside)


def test_labels_and_embeddings(serve: Serve) -> None:
    model = serve("classify", partial(stub_classifier, 32))
    pictures = [Image.new("RGB", (40, 50), colour) for colour in ((200, 30, 20), (10, 90, 100))]
    red, blue = answers(model, *pictures, top_k=1)
    assert red == {"labels": [{"label": "red", "score": pytest.approx(0.8, abs=1e-3)}]}
    assert blue == {"labels": [{"label": "blue", "score": pytest.approx(0.5, abs=1e-3)}]}
    (reply,) = model.answer("embed", [png(pictures[1])], {})
    assert json.loads(reply.content) == pytest.approx([10, 90, 100], abs=0.01)


def test_an_image_that_cannot_be_read_changes_no_other(serve: Serve) -> None:
    """Each has the answer at its own place."""
    model = serve("classify", partial(stub_classifier, 32))
    red, blue = (png(Image.new("RGB", (40, 50), colour)) for colour in ("red", "blue"))
    replies = model.answer("predict", [red, b"none", blue], {"top_k": 1})
    assert [reply.status for reply in replies] == [200, 422, 200]
    assert [json.loads(replies[i].content)["labels"][0]["label"] for i in (0, 2)] == ["red", "blue"]
