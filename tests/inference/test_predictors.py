"""`convnext.load` and what it returns."""

import numpy as np
import pytest
import torch
from PIL import Image

import convnext
from convnext.data.images.preprocessing import Preprocessing
from convnext.data.images.whole_image import WholeImage
from convnext.models.detection.rcnn import create_detector
from convnext.models.segmentation.upernet import create_segmenter


def test_answers_have_the_form_hf_pipelines_return(run, colours):
    predictor = convnext.load(run)
    path = colours / "val/green/2.png"
    answer = predictor(path, top_k=2)
    assert [label.keys() for label in answer] == [{"label", "score"}] * 2
    assert answer[0]["score"] >= answer[1]["score"] > 0
    assert sum(label["score"] for label in predictor(path)) == pytest.approx(1, abs=1e-5)


def test_path_string_file_and_pil_image_give_the_same(run, colours):
    predictor = convnext.load(str(run), backend="torch")  # OpenVINO's differ by rounding as a shape comes again
    path = colours / "val/green/2.png"
    with open(path, "rb") as file:
        from_file = predictor(file)
    assert predictor(path) == predictor(str(path)) == from_file == predictor(Image.open(path))


def test_a_list_gives_a_list_of_answers(run, colours):
    predictor = convnext.load(run)
    paths = [colours / "val/green/2.png", colours / "val/red/1.png"]
    for size in (1, 2, 5):
        for together, alone in zip(predictor(paths, batch_size=size), map(predictor, paths), strict=True):
            assert [label["label"] for label in together] == [label["label"] for label in alone]
            assert [label["score"] for label in together] == pytest.approx(
                [label["score"] for label in alone], abs=1e-6
            )


def test_arrays_and_tensors_are_images(run, colours):
    predictor = convnext.load(run, device="cpu", backend="torch")
    image = Image.open(colours / "val/green/2.png")
    pixels = np.asarray(image)
    assert predictor(pixels) == predictor(torch.from_numpy(pixels.copy()).permute(2, 0, 1)) == predictor(image)


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_detectors_and_segmenters_take_one_image_or_many_in_any_form(task, tmp_path):
    wholes = WholeImage(64, 64)
    if task == "detect":
        model = create_detector("convnextv2_atto", num_classes=2, fpn_dim=32, linear_dim=32)
        predictor = convnext.Detector(model, ["a", "b"], [1, 2], wholes)
    else:
        model = create_segmenter("convnextv2_atto", num_classes=2, fpn_dim=32, aux_dim=16)
        predictor = convnext.Segmenter(model, ["a", "b"], wholes)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 40, 3), np.uint8)
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    forms = [tmp_path / "a.png", Image.fromarray(pixels[0]), pixels[0], torch.from_numpy(pixels[0]).permute(2, 0, 1)]

    def same(one, other):
        if task == "segment":
            return one.dtype == np.uint16 and (one == other).all()
        return [(o["label"], o["box"]) for o in one] == [(o["label"], o["box"]) for o in other]

    options = {"threshold": 0.0} if task == "detect" else {}
    alone = predictor(forms[0], **options)
    assert all(same(predictor(form, **options), alone) for form in forms)
    many = predictor([forms[2], pixels[1]], batch_size=1, **options)
    assert len(many) == 2
    assert same(many[0], alone)
    assert len(predictor([forms[2], pixels[1]], batch_size=2, **options)) == 2


def test_an_unreadable_image_is_an_error_with_its_name(run, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(convnext.ImageError, match=r"bad\.jpg"):
        convnext.load(run)(tmp_path / "bad.jpg")


def test_preprocessing_and_classes_come_with_the_weights(run):
    predictor = convnext.load(run / "checkpoints" / "best.safetensors")
    assert predictor.classes == ["blue", "green", "red"]
    assert predictor.preprocessing == Preprocessing.standard(32)


@pytest.mark.parametrize(("classes", "label"), [(1000, "tench"), (7, "0")])
def test_weights_without_classes_get_imagenet_s_or_numbers(tmp_path, classes, label):
    model = convnext.create_model("convnextv2_atto", num_classes=classes)
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data[0] = 9.0
    torch.save({"model": model.state_dict()}, tmp_path / "official.pt")
    predictor = convnext.load(tmp_path / "official.pt")
    assert predictor.preprocessing == Preprocessing.standard(224)
    assert predictor(Image.new("RGB", (64, 64)))[0]["label"].split(",")[0] == label


def test_grey_models_take_colour_images(tmp_path):
    model = convnext.create_model("convnextv2_atto", num_classes=3, in_chans=1, stem_patch=2)
    meta = {"classes": ["a", "b", "c"], "preprocessing": Preprocessing.standard(32, in_chans=1).to_dict()}
    convnext.save_weights(model, tmp_path / "grey.safetensors", meta=meta)
    answer = convnext.load(tmp_path / "grey.safetensors")(Image.new("RGB", (50, 60), "red"))
    assert {label["label"] for label in answer} == {"a", "b", "c"}


def test_batches_without_an_image_are_refused(run, colours):
    """Not answered by an empty list."""
    with pytest.raises(convnext.InputError, match="batch_size must be at least 1, not 0"):
        convnext.load(run)([colours / "val/green/2.png"], batch_size=0)
