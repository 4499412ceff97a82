"""Augmentation: shapes, both channel counts, and the settings that reach timm."""

import pickle
import random
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.data.augment.erasing import RandomErasing
from convnext.data.augment.transforms import train_transform
from convnext.data.images.decode import read_image
from convnext.data.images.encoded import DecodedImage, EncodedImage
from convnext.data.images.preprocessing import Preprocessing
from convnext.errors import InputError


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def noise(mode: str, size: int = 40) -> Image.Image:
    shape = (size, size, 3) if mode == "RGB" else (size, size)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("in_chans", [1, 3])
def test_the_recipe_runs_for_both_channel_counts(in_chans: int):
    rule = Preprocessing.standard(32, in_chans)
    transform, image = train_transform(rule), noise(rule.mode)
    results = [transform(image) for _ in range(300)]  # enough to meet every operation of RandAugment
    assert {tuple(result.shape) for result in results} == {(in_chans, 32, 32)}
    assert all(result.dtype == torch.float32 and result.isfinite().all() for result in results)
    assert not torch.equal(results[0], results[1])


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("strength", ["rand-m10-n4-p1-inc1", "rand-m0-n4-p1", "rand-m10-n4-p1"])
def test_the_ends_of_randaugments_scale_work(in_chans: int, strength: str):
    # timm posterizes to 0 bits there, which Pillow refuses from version 13 on.
    rule = Preprocessing.standard(16, in_chans)
    transform, image = train_transform(rule, rand_augment=strength, random_erasing=0), noise(rule.mode)
    for _ in range(60):
        assert transform(image).isfinite().all()


def test_all_off_is_the_plain_resized_image():
    rule = Preprocessing(32, 1.0, (0.5,) * 3, (0.25,) * 3)
    plain = train_transform(rule, scale=(1, 1), hflip=0, rand_augment=None, random_erasing=0, color_jitter=0)
    difference = (plain(noise("RGB")) - rule(noise("RGB"))).abs() * 0.25 * 255  # in levels: torch rounds otherwise
    assert difference.max() < 4
    assert difference.mean() < 0.1


def test_crops_of_small_images_without_flips():
    # The left half is dark: without flips and with mild crops it stays on the left.
    digit = Image.new("L", (8, 8), 255)
    digit.paste(0, (0, 0, 4, 8))
    rule = Preprocessing(32, 1.0, (0.0,), (1.0,), in_chans=1)
    transform = train_transform(rule, scale=(0.6, 1.0), hflip=0, rand_augment=None, random_erasing=0)
    results = torch.stack([transform(digit) for _ in range(50)])
    assert (results[..., 0] < 0.1).all()
    assert (results[..., -1] > 0.9).all()
    assert results.std(dim=0).max() > 0.05


def test_flips_are_from_left_to_right():
    digit = Image.new("L", (8, 8), 255)
    digit.paste(0, (0, 0, 4, 4))
    rule = Preprocessing(8, 1.0, (0.0,), (1.0,), in_chans=1)
    flipped = train_transform(rule, scale=(1, 1), hflip=1, rand_augment=None, random_erasing=0)
    assert flipped(digit)[0, 0, 7] == 0
    assert flipped(digit)[0, 0, 0] == flipped(digit)[0, 7, 7] == 1


def test_random_erasing_writes_noise_per_pixel():
    rule = Preprocessing(32, 1.0, (0.0,) * 3, (1.0,) * 3)
    transform = train_transform(rule, rand_augment=None, random_erasing=1)
    result = transform(Image.new("RGB", (32, 32)))
    erased = result[result != 0]
    assert erased.numel() > 32
    assert erased.unique().numel() > erased.numel() // 2


def test_random_erasing_takes_the_rectangles_timm_takes():
    from timm.data.random_erasing import RandomErasing as Theirs

    ours, theirs = RandomErasing(0.5), Theirs(0.5, mode="pixel", device="cpu")
    kinds = set()
    for seed in range(100):
        random.seed(seed)
        rectangle = ours(40, 24)
        random.seed(seed)
        erased = theirs(torch.zeros(1, 40, 24))[0] != 0
        expected = torch.zeros(40, 24, dtype=torch.bool)
        if rectangle is not None:
            expected[rectangle.top :, rectangle.left :][: rectangle.height, : rectangle.width] = True
        assert torch.equal(erased, expected)
        kinds.add(rectangle is None)
    assert kinds == {True, False}


def test_a_batch_is_finished_as_its_images_are_one_by_one():
    transform = train_transform(Preprocessing.standard(16), random_erasing=1)
    augmented = [transform.reading(DecodedImage(noise("RGB"))) for _ in range(4)]
    batch = transform.finish(a.erased for a in augmented)(torch.stack([a.pixels for a in augmented]))
    alone = [transform.finish([a.erased])(a.pixels[None])[0] for a in augmented]
    assert torch.equal(batch, torch.stack(alone))
    assert batch.std() > 0.5


def test_color_jitter_acts_without_randaugment():
    rule = Preprocessing.standard(16)
    grey = Image.new("RGB", (16, 16), (120, 60, 200))
    transform = train_transform(rule, rand_augment=None, color_jitter=0.4, random_erasing=0)
    assert not torch.equal(transform(grey), transform(grey))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_degenerate_images(size: tuple[int, int]):
    assert train_transform(Preprocessing.standard(16))(Image.new("RGB", size)).shape == (3, 16, 16)


def test_travels_to_spawned_workers():
    transform = pickle.loads(pickle.dumps(train_transform(Preprocessing.standard(16))))  # noqa: S301 - its own
    assert transform(noise("RGB")).shape == (3, 16, 16)


def test_an_unknown_policy_is_refused():
    with pytest.raises(InputError, match=r"rand_augment is a string such as rand-m9-mstd0.5-inc1, not 'augmix'"):
        train_transform(Preprocessing.standard(16), rand_augment="augmix")


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(real_images):
    path = sorted(real_images.glob("imagenette/train/*/*"))[7]
    file = BytesIO()
    Image.open(path).convert("RGB").resize((1500, 2000), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    transform = train_transform(Preprocessing.standard(64), rand_augment=None, random_erasing=0)
    results = []
    encoded = EncodedImage(file.getvalue(), "RGB", name="")
    for image in (encoded, DecodedImage(read_image(BytesIO(file.getvalue())))):
        random.seed(3)
        torch.manual_seed(3)
        results.append(transform.reading(image).pixels.float() / 255)
    random.seed(3)
    torch.manual_seed(3)
    assert encoded.decode(transform.reduction(transform.draw(*encoded.size))).shape[1] <= 1000
    assert (results[0] - results[1]).abs().mean() < 0.005


@pytest.mark.parametrize("policy", ["rand-zzz", "rand-m", "random", "rand-m9-mstd0.5-inc1x", "augmix-m3"])
def test_policies_that_timm_would_pass_over_are_refused(policy: str) -> None:
    with pytest.raises(InputError, match=r"rand-m9-mstd0\.5-inc1"):
        train_transform(Preprocessing.standard(32), rand_augment=policy)
