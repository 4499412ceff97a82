"""The family's smallest member, which only tests know; Python imports this file wherever it starts with its folder on
the path, so the commands that tests start know the member too.

A training of it takes less than half as long as one of the smallest published member. It is found by its name and by
the shapes of weights, and is not among the names: what is said of the family is said without it.
"""

from __future__ import annotations

from importlib.util import find_spec

BYTE = "convnextv2_byte"


def add_member() -> None:
    """Must come before any module takes the family as it is."""
    from convnext import variants

    byte = variants.Variant(BYTE, 2, (1, 1, 2, 1), (16, 32, 64, 128), 350_000, 26_000_000, None)

    class Members(dict[str, variants.Variant]):
        def __missing__(self, name: str) -> variants.Variant:
            if name == BYTE:
                return byte
            raise KeyError(name)

        def values(self) -> list[variants.Variant]:
            return [*super().values(), byte]

    variants.VARIANTS = Members(variants.VARIANTS)


if find_spec("convnext"):  # an environment that a test makes may be without it
    add_member()
