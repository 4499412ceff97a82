"""The stored rule gives timm's numbers and refuses nonsense."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.data.images.preprocessing import Preprocessing
from convnext.data.images.whole_image import WholeImage
from convnext.errors import ImageError, InputError


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(width * height).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("size", [(300, 200), (201, 333), (224, 224), (256, 256), (50, 90), (1, 1), (7, 61)])
@pytest.mark.parametrize(("image_size", "in_chans"), [(224, 3), (129, 3), (224, 1), (384, 3), (32, 1)])
def test_equals_timm(size: tuple[int, int], image_size: int, in_chans: int):
    from timm.data import create_transform

    rule = Preprocessing.standard(image_size, in_chans)
    reference = create_transform(
        input_size=(in_chans, image_size, image_size),
        is_training=False,
        crop_pct=rule.crop,
        crop_mode="squash" if rule.crop == 1 else "center",
        interpolation="bicubic",
        mean=rule.mean,
        std=rule.std,
    )
    image = noise(*size, mode=rule.mode)
    ours = rule(image)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous()
    assert torch.equal(ours, reference(image))


def test_standard_is_the_papers_rule():
    small, large, grey = (
        Preprocessing.standard(224),
        Preprocessing.standard(384),
        Preprocessing.standard(64, in_chans=1),
    )
    assert (small.crop, large.crop) == (0.875, 1.0)
    assert small.mean == (0.485, 0.456, 0.406)
    assert small.std == (0.229, 0.224, 0.225)
    assert grey.mean == (0.449,)
    assert grey.std == (0.226,)
    assert (small.mode, grey.mode) == ("RGB", "L")


def test_takes_images_of_any_mode():
    rule = Preprocessing.standard(32)
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    assert torch.equal(rule(clear), rule(Image.new("RGB", (40, 40), "white")))


def test_other_channel_counts_have_no_image_mode():
    with pytest.raises(InputError, match="1 or 3 channels, and this model takes 5"):
        _ = Preprocessing.standard(224, in_chans=5).mode


@pytest.mark.parametrize(("size", "length"), [(224, 900_000), (32, 100_000)])
def test_a_thread_of_pixels_is_refused_before_it_fills_memory_or_takes_seconds(size: int, length: int) -> None:
    with pytest.raises(ImageError, match=f"1×{length} pixels is too elongated"):
        Preprocessing.standard(size)(Image.new("RGB", (1, length)))


def test_a_long_panorama_is_taken():
    assert Preprocessing.standard(224)(Image.new("RGB", (10_000, 50))).shape == (3, 224, 224)


def test_round_trip_through_json():
    import json

    rule = Preprocessing(96, 0.9, (0.5,), (0.25,), "bilinear", in_chans=1)
    assert Preprocessing.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 0}, "image_size must be a positive integer, not 0"),
        ({"image_size": "224"}, "image_size must be a positive integer, not '224'"),
        ({"in_chans": True}, "in_chans must be a positive integer, not True"),
        ({"crop": 1.2}, "crop must lie between 0.01 and 1, not 1.2"),
        ({"crop": 5e-324}, "crop must lie between 0.01 and 1, not 5e-324"),
        ({"crop": None}, "crop must lie between 0.01 and 1, not None"),
        ({"mean": [0.5]}, "mean must be 3 finite numbers"),
        ({"mean": [0.5, float("nan"), 0.5]}, "mean must be 3 finite numbers"),
        ({"mean": [0.5, 10**400, 0.5]}, "mean must be 3 finite numbers"),
        ({"mean": [0.5, -1e300, 0.5]}, r"mean must be at most 1e\+06"),
        ({"std": [0.2, 0.0, 0.2]}, "std must be at least 1e-06"),
        ({"std": [0.2, 1e-300, 0.2]}, "std must be at least 1e-06"),
        ({"std": [0.2, 2**70, 0.2]}, r"std must be at most 1e\+06"),
        ({"std": 0.2}, "std must be 3 finite numbers, not 0.2"),
        ({"interpolation": "cubic"}, "interpolation must be one of nearest, bilinear, bicubic, lanczos, not 'cubic'"),
        ({"interpolation": ["bicubic"]}, "interpolation must be one of"),
        ({"color": "RGB"}, "unknown entry 'color'"),
    ],
)
def test_nonsense_is_refused(change: dict, message: str):
    with pytest.raises(InputError, match=message):
        Preprocessing.from_dict(Preprocessing.standard(224).to_dict() | change)


@pytest.mark.parametrize("values", [None, [], {}, {"image_size": 224}])
def test_incomplete_settings_are_refused(values: object):
    with pytest.raises(InputError, match=r"^preprocessing: (expected a table|missing entry)"):
        Preprocessing.from_dict(values)


def test_imports_nothing_heavy():
    code = (
        "import convnext.data.loading, sys;"
        "heavy = {'torchvision', 'timm', 'sklearn', 'pyarrow', 'matplotlib', 'torch._dynamo'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 64), "short side, in pixels, must lie between 1 and 4096, not 0"),
        ((10**9, 64), "short side, in pixels, must lie between 1 and 4096, not 1000000000"),
        ((64, None), "long side, in pixels, must be at least 1, not None"),
        ((64, 64, 0), "value of white must lie between 1 and 65535, not 0"),
    ],
)
def test_sides_of_whole_images_that_cannot_be_are_refused(values: tuple, message: str):
    with pytest.raises(InputError, match=message):
        WholeImage(*values)


def test_a_whole_image_is_refused_before_it_fills_memory():
    assert WholeImage(64, 10**9)(Image.new("RGB", (30, 300))).shape == (3, 640, 64)
    with pytest.raises(ImageError, match="30×30000 pixels is too large at 1000×1000000 pixels"):
        WholeImage(1000, 10**9)(Image.new("RGB", (30, 30_000)))


def test_a_size_that_cannot_be_is_one_line(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger="convnext")
    with pytest.raises(InputError, match="short side, in pixels, must lie between 1 and 4096, not 0"):
        WholeImage(64, 128).resized(0)
    assert not caplog.records
    assert WholeImage(64, 128).resized(32) == WholeImage(32, 64)
    assert caplog.records
