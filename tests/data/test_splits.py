"""What is held out depends on an image's own name; what is measured depends on the data and on what was trained on."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from convnext.data.measured import choose_undivided, measured_parts
from convnext.data.sources.records import in_class_order
from convnext.data.splits import (
    HoldOut,
    Origin,
    hash_fraction,
    origin_of,
    part_of_name,
    training_parts,
)
from convnext.errors import InputError

MANY = [f"cat/{number}.jpg" for number in range(1000)]


def test_class_order() -> None:
    assert in_class_order(["dog", "cat", "Ant", "cat"]) == ("Ant", "cat", "dog")
    assert in_class_order(["10", "9", "1"]) == ("1", "9", "10")
    assert in_class_order(["10", "9", "x"]) == ("10", "9", "x")


def test_the_hash_never_changes() -> None:
    # A new value here would move the held-out images of everyone's earlier runs.
    assert hash_fraction("cat/1.jpg") == pytest.approx(0.19533620396206075, abs=1e-12)
    assert hash_fraction("caf\u00e9.jpg") == hash_fraction("cafe\u0301.jpg")
    assert 0 <= hash_fraction("broken name \udcff") < 1


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
def test_the_share_held_out_is_near_what_was_asked_for(fraction: float) -> None:
    assert sum(HoldOut(fraction).held(MANY)) == pytest.approx(1000 * fraction, abs=40)


def test_images_of_one_base_name_are_divided_too() -> None:
    """As those of a folder for each scene; by the name of the file alone, all of them or none were held out."""
    keys = [f"scene{number:03}/image.jpg" for number in range(200)]
    assert sum(HoldOut().held(keys)) == pytest.approx(40, abs=15)
    assert sum(HoldOut(rule=0).held(keys)) in (1, 199)


def test_images_added_later_move_no_others() -> None:
    rule = HoldOut().settled(MANY[:50], ["cat"] * 50)
    before = dict(zip(MANY[:50], rule.held(MANY[:50]), strict=True))
    after = dict(zip(MANY, rule.held(MANY[::-1])[::-1], strict=True))
    assert all(after[key] == held for key, held in before.items())


@pytest.mark.parametrize("count", [2, 3, 4, 5, 12])
def test_few_images_are_divided_into_something_to_train_on_and_something_to_measure(count: int) -> None:
    for start in range(40):
        keys = [f"{start}-{number}.jpg" for number in range(count)]
        held = HoldOut().settled(keys).held(keys)
        assert 1 <= sum(held) <= count / 2


def test_every_class_keeps_an_image_to_train_on_and_added_ones_do_not_change_that() -> None:
    keys = [f"{group}/{number}.jpg" for group in "abcdefghij" for number in range(2)]
    groups = [key[0] for key in keys]
    rule = HoldOut(0.45).settled(keys, groups)
    held = dict(zip(keys, rule.held(keys, groups), strict=True))
    assert {key[0] for key in keys if not held[key]} == set("abcdefghij")
    assert rule.moved  # else this would not be tested
    more = [*keys, *(f"{group}/{number}.jpg" for group in "abcdefghij" for number in range(2, 9))]
    again = dict(zip(more, rule.held(more), strict=True))
    assert all(again[key] == held[key] for key in keys)
    stored = HoldOut(**json.loads(json.dumps(Origin(rule, {}).to_dict()))["hold_out"])
    assert stored.held(more) == rule.held(more)


def test_runs_made_before_keep_their_rules() -> None:
    """As version 010dc50 divided these: by class with one on either side; and by the names of files."""
    keys = [f"{name}/{number}.jpg" for name in "ab" for number in range(6)]
    held = [key for key, own in zip(keys, HoldOut(rule=1).held(keys, [k[0] for k in keys]), strict=True) if own]
    assert held == ["a/1.jpg", "a/5.jpg", "b/4.jpg", "b/5.jpg"]
    names = [f"{number}.png" for number in range(10)]
    assert [n for n, own in zip(names, HoldOut(rule=0).held(names), strict=True) if own] == ["1.png"]
    with pytest.raises(InputError, match="rule 9, which this version does not know"):
        HoldOut(rule=9)


@pytest.mark.parametrize(
    ("name", "part"),
    [("Training", "train"), ("train", "train"), ("VALID", "val"), ("dev", "val"), ("Testing", "test"), ("cat", None)],
)
def test_names_of_parts(name: str, part: str | None) -> None:
    assert part_of_name(name) == part


def test_which_part_is_meant() -> None:
    assert measured_parts("D", ("train", "val", "test"), None) == ("val",)
    assert measured_parts("D", ("train", "test"), "val") == ("test",)
    assert measured_parts("D", ("train", "val", "test"), "test") == ("test",)
    assert measured_parts("D", ("train", "val", "test"), "all") == ("train", "val", "test")
    assert measured_parts("D", ("test",), None) == ("test",)
    with pytest.raises(InputError, match="D has no train part; it has val"):
        measured_parts("D", ("val",), "train")
    assert training_parts("D", ("train", "test", "val")) == ("train", "val")
    with pytest.raises(InputError, match="nothing to train on"):
        training_parts("D", ("val",))


def content(index: int) -> bytes:
    return MANY[index].encode()


def other_content(index: int) -> bytes:
    return b"other"


@pytest.mark.parametrize("fraction", [HoldOut().fraction, 0.5])
def test_data_not_trained_on_are_measured_whole_and_own_data_in_part(
    fraction: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "convnext")
    rule = HoldOut(fraction).settled(MANY)
    train = [i for i, held in enumerate(rule.held(MANY)) if not held]
    origin = origin_of(rule, [MANY[i] for i in train], lambda i: content(train[i]))
    chosen, name = choose_undivided("D", MANY, None, split=None, origin=origin, content=content)
    assert (name, chosen) == ("val", [i for i in range(1000) if i not in set(train)])
    assert "of 1000 images that a hash of their names holds out of training; --split all takes all" in caplog.text
    chosen, name = choose_undivided("D", MANY, None, split=None, origin=origin, content=other_content)
    assert (name, len(chosen)) == ("all", 1000)  # the same names, other images
    chosen, _ = choose_undivided("D", MANY, None, split=None, origin=None, content=content)
    assert len(chosen) == 1000
    chosen, _ = choose_undivided("D", MANY, None, split="train", origin=origin, content=content)
    assert chosen == train
    with pytest.raises(InputError, match="no test part"):
        choose_undivided("D", MANY, None, split="test", origin=origin, content=content)


def test_training_images_of_divided_data_are_said_to_be_such(caplog: pytest.LogCaptureFixture) -> None:
    origin = origin_of(None, MANY, content)
    chosen, name = choose_undivided("D/train", MANY, None, split=None, origin=origin, content=content)
    assert (name, len(chosen)) == ("all", 1000)
    assert "D/train: the model was trained on these images" in caplog.text


def test_an_origin_that_cannot_be_read_is_refused() -> None:
    for values in (None, {}, {"hold_out": 3, "sample": {}}, {"hold_out": {"fraction": 0.2, "x": 1}, "sample": None}):
        with pytest.raises(InputError):
            Origin.from_dict(values)


def test_the_sample_is_small(tmp_path: Path) -> None:
    assert len(json.dumps(origin_of(HoldOut(), MANY, content).to_dict())) < 2500


def test_boxes_of_one_image_are_moved_together_and_something_is_held_out() -> None:
    low = next(name for name in MANY if hash_fraction(name) < 0.2)
    others = [name for name in MANY if hash_fraction(name) >= 0.2][:2]
    keys, classes = [low, low, *others], ["cat", "dog", "dog", "dog"]
    held = HoldOut().settled(keys, classes).held(keys, classes)
    assert held[:2] == [False, False]  # the only cat
    assert sum(held[2:]) == 1
