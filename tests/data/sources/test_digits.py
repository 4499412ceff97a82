"""The embedded digits are the same images, split the same way, for everyone."""

import numpy as np
from sklearn.datasets import load_digits

from convnext.data.image_set import read_split, read_train_val
from convnext.data.sources.inputs import expand


def test_split_is_fixed_and_stratified():
    train, val, origin = read_train_val("digits")
    assert (len(train), len(val)) == (1438, 359)
    assert train.classes == val.classes == tuple("0123456789")
    assert not set(train.sources) & set(val.sources)
    assert {val.targets.count(label) for label in range(10)} <= {35, 36, 37}
    assert val.sources[:3] == ["digits/0005", "digits/0007", "digits/0016"]
    assert read_split("digits") == val
    assert origin.hold_out is None


def test_images_are_those_of_scikit_learn():
    val, digits = read_split("digits", "val"), load_digits()
    number = int(val.sources[5].removeprefix("digits/"))
    image = val.open(5, "L")
    assert image.size == (8, 8)
    np.testing.assert_array_equal(np.asarray(image), np.rint(digits.images[number] * 255 / 16))
    assert val.targets[5] == digits.target[number]
    assert val.open(5, "RGB").mode == "RGB"
    inputs = dict(expand(["digits"]))  # for what takes images alone
    assert len(inputs) == 1797
    np.testing.assert_array_equal(inputs[val.sources[5]], np.asarray(image))
