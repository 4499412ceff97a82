"""What tests with made-up and damaged files share: how many examples, odd values, damage, and how a call may end."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st

from convnext import InputError

EXAMPLES = int(os.environ.get("CONVNEXT_FUZZ", "50"))

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="CONVNEXT_FUZZ" not in os.environ,  # the same examples wherever the tests run
    suppress_health_check=list(HealthCheck),
)
numbers = st.integers(-(2**70), 2**70) | st.integers(-3, 300) | st.floats()
odd = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20) | st.sampled_from(["", "\0", "../x", "nan", "1e999"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=6,
)


def ends_well(call: Callable[[], object]) -> None:
    """Only an `InputError` of one line may come out of a call."""
    message = None
    try:
        call()
    except InputError as error:
        message = str(error)
    event("read" if message is None else "refused")
    assert message is None or message.strip()


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """Where each value of a JSON document stands."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, each in inner for place in places(each, (*at, key)))]


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A document of which up to three values are others, missing or there twice."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([place for place in places(document) if place] or [("x",)]))
        holder = document
        for key in above:
            holder = holder[key]
        how = draw(st.sampled_from(["other", "other", "missing", "twice"]))
        if how == "other" or not isinstance(holder, list | dict) or last == "x":
            if isinstance(holder, dict | list) and last != "x":
                holder[last] = draw(odd)
        elif how == "missing":
            del holder[last]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
    return document


# Not the damaged bytes themselves, which Hypothesis would keep of every example.
damages = st.lists(
    st.tuples(st.sampled_from(["other", "cut", "hole", "more"]), st.floats(0, 1), st.binary(min_size=1, max_size=16)),
    min_size=1,
    max_size=8,
)


def damaged(content: bytes, how: list[tuple[str, float, bytes]]) -> bytes:
    """Bytes of which some are others, some are missing or added, or the end is cut off."""
    changed = bytearray(content)
    for kind, place, new in how:
        at = int(place * len(changed))
        if kind == "other":
            changed[at : at + 1] = new[:1]
        elif kind == "cut":
            del changed[at:]
        elif kind == "hole":
            del changed[at : at + 4 * len(new)]
        else:
            changed[at:at] = new
    return bytes(changed)
