"""Decisions by cost, against a search over all of them; and tables that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convnext.analysis.costs import read_costs
from convnext.errors import InputError

TABLE = "true,a,b,ask\na,0,1,0.3\nb,9,0,0.3\n"


def test_the_decision_that_costs_least(tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text(TABLE)
    costs = read_costs(tmp_path / "costs.csv", ["b", "a"])
    assert costs.decisions == ["a", "b", "ask"]
    assert costs.matrix.tolist() == [[9, 0, 0.3], [0, 1, 0.3]]
    probabilities = np.random.default_rng(0).dirichlet([1, 1], 500)
    expected = [
        min(range(3), key=lambda d: own[0] * costs.matrix[0, d] + own[1] * costs.matrix[1, d]) for own in probabilities
    ]
    assert costs.cheapest(probabilities).tolist() == expected
    assert set(expected) == {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no decisions"),
        ("true,a,b\na,0,1\n", "no row for the class 'b'"),
        (TABLE + "c,1,1,1\n", "the model has no class 'c'"),
        (TABLE + "b,1,1,1\n", "a class has two rows"),
        ("true,a,b\na,0,1\nb,x,0\n", "the row of 'b' is not 2 numbers"),
        ("true,a,b\na,0\nb,1,0\n", "the row of 'a' is not 2 numbers"),
        ("true,a,b\na,0,nan\nb,1,0\n", "not a finite number"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "costs.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_costs(tmp_path / "costs.csv", ["a", "b"])


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_costs(tmp_path / "costs.csv", ["a"])
