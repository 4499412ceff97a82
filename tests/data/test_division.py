"""Divisions that are asked for: groups are whole, folds cover everything once, and neither place nor order counts."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convnext.data.division import Candidate, Division, balanced_bins, divide_as_asked, read_fold
from convnext.data.splits import HoldOut, Origin, whole_key
from convnext.errors import InputError
from convnext.tasks.classify.config import ClassifyConfig
from convnext.tasks.splitting import splitting_of

PATIENTS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("ab")), min_size=6, max_size=60)
"""Patient and class of each image."""


def no_cells(column: str) -> Sequence[object]:
    raise InputError(f"no column {column}, for there is no table")


def images_of(patients: list[tuple[int, str]], part: str = "") -> list[Candidate]:
    return [
        Candidate(part, f"{name}/p{patient}_{number}.jpg", {name: 1}) for number, (patient, name) in enumerate(patients)
    ]


def held(division: Division, images: Sequence[Candidate]) -> set[str]:
    parts, rule = divide_as_asked("D", division, images, no_cells)
    names = [whole_key(image.part, image.key) for image in images]
    chosen = {name for name, part in zip(names, parts, strict=True) if part == "val"}
    again = HoldOut(**json.loads(json.dumps(Origin(rule, {}).to_dict()))["hold_out"])
    assert again.held(names) == [part == "val" for part in parts]  # as a model that is measured later
    return chosen


@given(PATIENTS, st.booleans(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_a_group_is_never_split_and_order_does_not_count(
    patients: list[tuple[int, str]], stratify: bool, shuffle: random.Random
) -> None:
    images = images_of(patients)
    division = Division(0.3, group_by=r"(p\d+)_", stratify=stratify)
    if len({patient for patient, _ in patients}) < 2:
        with pytest.raises(InputError, match="1 group by"):
            held(division, images)
        return
    chosen = held(division, images)
    sides: dict[int, set[bool]] = defaultdict(set)
    for (patient, _), image in zip(patients, images, strict=True):
        sides[patient].add(image.key in chosen)
    assert {len(found) for found in sides.values()} == {1}
    assert {True} in sides.values()
    assert {False} in sides.values()
    shuffled = list(images)
    shuffle.shuffle(shuffled)
    assert held(division, shuffled) == chosen


@given(PATIENTS, st.integers(2, 5), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_folds_cover_all_once_and_only_once(
    patients: list[tuple[int, str]], folds: int, grouped: bool, stratify: bool
) -> None:
    images = images_of(patients)
    divisions = [
        Division(fold=f"{fold}/{folds}", group_by=r"(p\d+)_" if grouped else None, stratify=stratify)
        for fold in range(1, folds + 1)
    ]
    if grouped and len({patient for patient, _ in patients}) < folds:
        with pytest.raises(InputError, match=f"cannot make {folds} folds"):
            held(divisions[0], images)
        return
    found = [held(division, images) for division in divisions]
    assert min(map(len, found)) > 0
    assert Counter(key for own in found for key in own) == Counter(image.key for image in images)
    if not grouped and not stratify:
        assert max(map(len, found)) - min(map(len, found)) <= 1


def test_classes_keep_their_shares() -> None:
    sizes = {"a": 100, "b": 35, "c": 10}
    images = [Candidate("", f"{name}/{n}.jpg", {name: 1}) for name, count in sizes.items() for n in range(count)]
    for fold in range(1, 6):
        counts = Counter(key[0] for key in held(Division(fold=f"{fold}/5", stratify=True), images))
        assert counts == {"a": 20, "b": 7, "c": 2}
    assert Counter(key[0] for key in held(Division(0.2, stratify=True), images)) == {"a": 20, "b": 7, "c": 2}


def test_shares_of_objects_are_kept_as_near_as_groups_allow() -> None:
    """Against images of the same groups that are divided without regard to classes."""
    draws = random.Random(0)
    images = [
        Candidate("", f"p{n // 4}_{n}.jpg", {"rare": int(draws.random() < 0.1), "common": draws.randint(0, 5)})
        for n in range(400)
    ]

    def spread(stratify: bool) -> int:
        of_key = {image.key: image.classes["rare"] for image in images}
        how = {"group_by": r"(p\d+)_", "stratify": stratify}
        counts = [sum(of_key[key] for key in held(Division(fold=f"{k}/5", **how), images)) for k in range(1, 6)]
        return max(counts) - min(counts)

    assert spread(True) <= 1
    assert spread(False) > 3  # else nothing would be shown


def test_the_division_of_names_never_changes() -> None:
    # Another result here would divide the data of everyone's earlier folds anew.
    images = [Candidate("", f"{n}.jpg", {}) for n in range(12)]
    folds = [held(Division(fold=f"{k}/3"), images) for k in (1, 2, 3)]
    assert [sorted(int(key.split(".")[0]) for key in own) for own in folds] == FOLDS


FOLDS = [[0, 2, 4, 11], [1, 3, 8, 9], [5, 6, 7, 10]]


def test_bins_have_their_shares_and_none_is_empty() -> None:
    sizes = {f"g{n}": {"": 1} for n in range(50)}
    assert Counter(balanced_bins(sizes, [0.2, 0.8]).values()) == {0: 10, 1: 40}
    assert Counter(balanced_bins({"large": {"": 90}, "small": {"": 10}}, [0.2, 0.8]).items()) == {
        ("large", 1): 1,
        ("small", 0): 1,
    }
    assert set(balanced_bins({n: {"": 1} for n in "abc"}, [1, 1, 1]).values()) == {0, 1, 2}


def test_own_parts_do_not_count_and_a_test_part_is_left_alone() -> None:
    images = [Candidate(part, f"{n}.jpg", {}) for part in ("train", "val", "test") for n in range(10)]
    parts, rule = divide_as_asked("D", Division(fold="1/2"), images, no_cells)
    assert parts[20:] == ["test"] * 10
    assert Counter(parts[:20]) == {"train": 10, "val": 10}
    assert "train" in parts[10:20]
    assert len(rule.listed or ()) == 10


def test_the_newest_are_held_out_and_what_is_of_one_moment_stays_together() -> None:
    images = [Candidate("", f"{n}.jpg", {}) for n in range(10)]
    days = [f"2024-01-{day:02}" for day in (5, 1, 9, 9, 2, 3, 4, 9, 6, 7)]
    parts, _ = divide_as_asked("D", Division(0.2, time_column="day"), images, lambda column: days)
    assert [n for n, part in enumerate(parts) if part == "val"] == [2, 3, 7]
    grouped = Division(0.2, time_column="day", group_by="(.)_")  # 0 goes with 2, whose day is the last
    images = [Candidate("", f"{2 if n == 0 else n}_{n}.jpg", {}) for n in range(10)]
    parts, _ = divide_as_asked("D", grouped, images, lambda column: days if column == "day" else no_cells(column))
    assert parts[0] == parts[2] == "val"
    with pytest.raises(InputError, match="all images are of one moment"):
        divide_as_asked("D", Division(time_column="day"), images, lambda column: ["2024"] * 10)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["2024-01-01", "soon"], "'soon' is no date"),
        (["2024-01-01", ""], "no date"),
        (["2024-01-01", None], "no date"),
        (["2024-01-01", 7.0], "dates (0.jpg) and numbers (1.jpg), which cannot be compared"),
        (["31/01/2024", "01/02/2024"], "'31/01/2024' is no date, as 2024-01-31"),
    ],
)
def test_dates_that_cannot_be_read(cells: list[object], words: str) -> None:
    images = [Candidate("", f"{n}.jpg", {}) for n in range(2)]
    with pytest.raises(InputError) as error:
        divide_as_asked("D", Division(time_column="day"), images, lambda column: cells)
    assert words in str(error.value)


def test_dates_as_cameras_and_computers_write_them() -> None:
    images = [Candidate("", f"{n}.jpg", {}) for n in range(4)]
    cells = ["2024:01:31 10:00:00", date(2023, 1, 1), "2024-01-31T12:00:00+00:00", datetime(2022, 5, 5)]
    parts, _ = divide_as_asked("D", Division(0.25, time_column="day"), images, lambda column: cells)
    assert parts == ["train", "train", "val", "train"]


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "5", "a/b", "1/5/2", "-1/5", ""])
def test_folds_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="fold takes K/N"):
        read_fold(text)
    with pytest.raises(InputError, match="fold takes K/N"):
        Division(fold=text)


@pytest.mark.parametrize(
    ("division", "words"),
    [
        (Division(group_by="folder"), "1 group by folder of 6 images cannot be divided"),
        (Division(fold="1/7"), "6 images of 6 images cannot make 7 folds"),
        (Division(group_by="(p[12])"), "3 images do not match it, such as a/p0_0.jpg"),
        (Division(group_by="(p"), "not a regular expression"),
        (Division(group_by="(?:p)"), "parentheses say which part"),
    ],
)
def test_groups_that_cannot_be(division: Division, words: str) -> None:
    with pytest.raises(InputError) as error:
        held(division, images_of([(n % 4 * (n % 3 > 0), "a") for n in range(6)]))
    assert words in str(error.value)


@pytest.mark.parametrize("missing", ["", " ", None, float("nan"), "nan", "NaN"])
def test_images_whose_cell_is_missing_are_of_no_group(missing: object) -> None:
    images = [Candidate("", f"{n}.jpg", {}) for n in range(4)]
    with pytest.raises(InputError, match=r"2 images have none, such as 1\.jpg"):
        divide_as_asked("D", Division(group_by="patient"), images, lambda column: ["p", missing, "q", missing])


@pytest.mark.parametrize("name", ["group_by", "fold", "time_column"])
def test_an_option_without_a_value_is_refused(name: str) -> None:
    """A shell's variable that is not set must not divide as if nothing had been asked for."""
    with pytest.raises(InputError, match=f"{name} is empty"):
        splitting_of(ClassifyConfig(**{name: ""}))


def test_images_in_no_folder_are_of_no_group() -> None:
    with pytest.raises(InputError, match=r"2 images lie in no folder, such as 0\.jpg"):
        held(Division(group_by="folder"), [Candidate("", f"{n}.jpg", {}) for n in range(2)])


def test_two_rules_that_contradict_each_other() -> None:
    for how in ({"fold": "1/2"}, {"stratify": True}):
        with pytest.raises(InputError, match="give one of the two"):
            Division(time_column="day", **how)


def test_a_class_that_would_be_held_out_whole_is_named() -> None:
    images = images_of([(n, "a") for n in range(9)] + [(9, "b")])
    (fold,) = (k for k in (1, 2, 3) if "b/p9_9.jpg" in held(Division(fold=f"{k}/3"), images))
    with pytest.raises(InputError, match=f"of b, all images would be held out by fold {fold}/3"):
        divide_as_asked("D", Division(fold=f"{fold}/3"), images, no_cells, every_class=True)


def test_a_column_may_have_parentheses_in_its_name() -> None:
    images = [Candidate("", f"{number}.png", {}) for number in range(8)]
    sites = {"site (hospital)": [f"h{number % 4}" for number in range(8)]}

    def cells(column: str) -> list[str]:
        if column not in sites:
            raise InputError(f"no column {column}")
        return sites[column]

    parts, _ = divide_as_asked("data", Division(group_by="site (hospital)"), images, cells)
    assert Counter(zip(sites["site (hospital)"], parts, strict=True)).most_common()[-1][1] == 2
    with pytest.raises(InputError, match="8 images do not match it"):
        divide_as_asked("data", Division(group_by="site (clinic)"), images, cells)
