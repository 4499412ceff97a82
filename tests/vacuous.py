"""Finds assertions that are true of an empty collection, and so of a test that has found nothing.

    assert all(each.score > 0 for each in found)
    for each in found:
        assert each.score > 0

A collection counts as filled where the code shows it: it is written out, a `range` of numbers, a constant in capitals,
the parts of a network, or of such; or another assertion of the function says it, as `assert found` and `assert
len(found) == 3` do. `nonempty` says it in place, of what is too small for an assertion of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")

PASSED_ON = {"enumerate", "sorted", "list", "tuple", "set", "reversed", "iter", "map", "pairwise", "dict"}
"""Functions that give as many values as their last argument has, or one less."""
OF_NETWORKS = {"parameters", "named_parameters", "modules", "named_modules", "state_dict"}
"""Methods of networks that give something of any network."""


def nonempty(values: Iterable[T]) -> list[T]:
    """The values, of which there are some."""
    found = list(values)
    assert found, "nothing to look at"
    return found


class Vacuous(NamedTuple):
    """An assertion about all of a collection that may be empty: its line, and the collection."""

    line: int
    collection: str

    def __str__(self) -> str:
        return f"{self.line}: {self.collection}"


def vacuous(text: str) -> Iterator[Vacuous]:
    """The assertions of a file's text that are true of nothing."""
    module = ast.parse(text)
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef):
            yield from _of_function(function, module)


def _of_function(function: ast.FunctionDef, module: ast.Module) -> Iterator[Vacuous]:
    known = _Known(function, module)
    for node in _own_nodes(function):
        if isinstance(node, ast.For) and _asserts(node):
            looked_at = [node.iter]
        elif isinstance(node, ast.Assert):
            looked_at = [own.generators[0].iter for call in ast.walk(node.test) for own in _of_all(call)]
        else:
            continue
        for each in looked_at:
            if not known.is_filled(each):
                yield Vacuous(each.lineno, ast.unparse(each))


def _asserts(loop: ast.For) -> bool:
    return any(isinstance(each, ast.Assert) for part in loop.body for each in _own_nodes(part))


def _of_all(call: ast.AST) -> list[ast.GeneratorExp | ast.ListComp]:
    """What stands within `all`."""
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "all":
        return [each for each in call.args if isinstance(each, ast.GeneratorExp | ast.ListComp)]
    return []


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A node and those in it, but not the functions that it defines."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield from _own_nodes(child)


class _Known:
    """What a function's code shows of its collections."""

    def __init__(self, function: ast.FunctionDef, module: ast.Module) -> None:
        self.asserted: set[str] = set()
        self.values: dict[str, list[ast.expr]] = {}
        for node in [*module.body, *_own_nodes(function)]:
            if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Call):
                self.asserted |= set(_sized(node.test))
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self.values.setdefault(ast.unparse(target), []).append(node.value)

    def is_filled(self, node: ast.expr) -> bool:
        """Whether a collection has something in it."""
        if ast.unparse(node) in self.asserted:
            return True
        match node:
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
                return any(not isinstance(part, ast.Starred) or self.is_filled(part.value) for part in parts)
            case ast.Dict(keys=keys):
                return bool(keys)
            case ast.Constant(value=str() | bytes() as value):
                return bool(value)
            case ast.Name(id=name):
                values = self.values.pop(name, [])  # so that one made of itself ends
                filled = bool(values) and all(self.is_filled(value) for value in values)
                self.values[name] = values
                return name.isupper() or filled
            case ast.Attribute(attr=name):
                return name.isupper() or name in ("__all__", "dims", "depths")
            case ast.Subscript(value=value, slice=ast.Slice()):
                return self.is_filled(value)
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp() | ast.DictComp():
                parts = node.generators
                return all(self.is_filled(part.iter) and not part.ifs for part in parts)
            case ast.IfExp(body=body, orelse=other):
                return self.is_filled(body) and self.is_filled(other)
            case ast.BinOp(left=left, op=ast.Add() | ast.BitOr(), right=right):
                return self.is_filled(left) or self.is_filled(right)
            case ast.BinOp(left=left, op=ast.Mult()):
                return self.is_filled(left)
            case ast.Call(func=ast.Name("nonempty")):
                return True
            case ast.Call(func=ast.Name("range"), args=[ast.Call(func=ast.Name("len"), args=[value])]):
                return self.is_filled(value)
            case ast.Call(func=ast.Name("range"), args=args):
                return isinstance(args[0], ast.Constant | ast.Name | ast.IfExp)
            case ast.Call(func=ast.Name("zip"), args=args):
                return any(self.is_filled(arg.value if isinstance(arg, ast.Starred) else arg) for arg in args)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[*_, last]) if name in PASSED_ON:
                return self.is_filled(last)
            case ast.Call(func=ast.Attribute(value=value, attr="items" | "values" | "keys" | "split" | "splitlines")):
                return self.is_filled(value)
            case ast.Call(func=ast.Attribute(attr=name)):
                return name in OF_NETWORKS
        return False


def _sized(test: ast.expr) -> Iterator[str]:
    """What an assertion says has something in it."""
    match test:
        case ast.BoolOp(op=ast.And(), values=parts):
            for part in parts:
                yield from _sized(part)
        case ast.Compare(left=left, comparators=[*others]):
            for side in (left, *others):
                for part in [side, *(side.elts if isinstance(side, ast.Tuple) else [])]:
                    yield ast.unparse(part)
                    for call in ast.walk(part):
                        if isinstance(call, ast.Call) and call.args:
                            yield ast.unparse(call.args[0])
                        elif isinstance(call, ast.comprehension):
                            yield ast.unparse(call.iter)
        case ast.Name() | ast.Attribute() | ast.Subscript():
            yield ast.unparse(test)
