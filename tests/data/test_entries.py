"""The order of classes, and a held-out part that depends on names alone."""

import pytest

from convnext.data.entries import hash_fraction, hold_out, in_class_order


def test_class_order():
    assert in_class_order(["dog", "cat", "Ant", "cat"]) == ("Ant", "cat", "dog")
    assert in_class_order(["10", "9", "1"]) == ("1", "9", "10")
    assert in_class_order(["10", "9", "x"]) == ("10", "9", "x")


def test_the_hash_never_changes():
    # A new value here would move the held-out images of everyone's earlier runs.
    assert hash_fraction("cat/1.jpg") == pytest.approx(0.19533620396206075, abs=1e-12)
    assert hash_fraction("caf\u00e9.jpg") == hash_fraction("cafe\u0301.jpg")
    assert 0 <= hash_fraction("broken name \udcff") < 1


def test_a_key_keeps_its_split_whatever_else_is_there():
    keys = [f"a/{number}.jpg" for number in range(1000)]
    splits = dict(zip(keys, hold_out(keys, ["a"] * 1000, 0.2), strict=True))
    assert 150 < list(splits.values()).count("val") < 250
    some = keys[::-7]
    assert hold_out(some, ["a"] * len(some), 0.2) == [splits[key] for key in some]


def test_a_larger_fraction_only_adds():
    keys = [f"a/{number}.jpg" for number in range(500)]
    fewer, more = (hold_out(keys, None, fraction) for fraction in (0.1, 0.3))
    assert all(now == "val" for before, now in zip(fewer, more, strict=True) if before == "val")


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_every_class_of_two_has_both_parts(fraction: float):
    keys = [f"{group}/{number}.jpg" for group in "abc" for number in range(2)] + ["d/0.jpg"]
    groups = [key[0] for key in keys]
    splits = hold_out(keys, groups, fraction)
    assert {(group, split) for group, split in zip(groups, splits, strict=True)} == {
        ("a", "train"),
        ("a", "val"),
        ("b", "train"),
        ("b", "val"),
        ("c", "train"),
        ("c", "val"),
        ("d", "train"),
    }
