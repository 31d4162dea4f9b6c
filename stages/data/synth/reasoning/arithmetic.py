"""Checks the arithmetic in a reasoning trace.

A trace line is clauses with "; " between them, each with an optional label that ends in ": ". A clause with
" = " is a claim: all its parts have the same value. So is one with " < " or " > ". Anything else is prose.

    tens: 4 + 7 + 1 = 12; write 2, carry 1
    b = a + 4 = 3 + 4 = 7          binds b; from here on b is 7
    reverse([3, 1]) = [1, 3]
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

Value = int | Fraction | tuple[int, ...]

_NAME = re.compile(r"[a-z]")
_INTEGER = re.compile(r"-?\d+")
_SIMPLE = re.compile(r"(\d+) ([-+*]) (\d+)")
_IMPLICIT_PRODUCT = re.compile(r"(?<=\d)(?=[a-z(])")
_COMPARISON = re.compile(r" ([<>]) ")

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "sum": sum,
    "len": len,
    "abs": abs,
    "sort": lambda items: tuple(sorted(items)),
    "reverse": lambda items: tuple(reversed(items)),
    "drop_first": lambda items: items[1:],
    "drop_last": lambda items: items[:-1],
    "append": lambda items, item: (*items, item),
    "add": lambda items, amount: tuple(item + amount for item in items),
    "double": lambda items: tuple(item * 2 for item in items),
    "even": lambda items: tuple(item for item in items if item % 2 == 0),
    "odd": lambda items: tuple(item for item in items if item % 2 == 1),
}
"""What a trace may call: the list operations of `lists`, and a few of Python's."""


def check_trace(lines: Iterable[str], known: Mapping[str, int] | None = None) -> int:
    """Raise ValueError, naming the line, if a claim in it is false or cannot be evaluated; else count the claims.

    `known` are names with a value from the start (the unknown of an equation), which no line may change.
    """
    fixed = dict(known or {})
    bound: dict[str, Value] = dict(fixed)
    claims = 0
    for line in lines:
        for clause in line.split("; "):
            clause = clause.rpartition(": ")[2]
            try:
                if " = " in clause:
                    _check_equation(clause.split(" = "), bound, fixed)
                    claims += 1
                elif _COMPARISON.search(clause):
                    _check_comparison(clause, bound)
                    claims += 1
            except (ValueError, SyntaxError, KeyError, TypeError, ZeroDivisionError) as error:
                raise ValueError(f"{line!r}: {error}") from None
    return claims


def _check_equation(parts: list[str], bound: dict[str, Value], fixed: Mapping[str, int]) -> None:
    target = parts[0] if _NAME.fullmatch(parts[0]) and parts[0] not in fixed else None
    values = [evaluate(part, bound) for part in (parts[1:] if target else parts)]
    if any(value != values[0] for value in values):
        raise ValueError(f"{' and '.join(map(_show, values))} are not equal")
    if target:
        bound[target] = values[0]


def _check_comparison(clause: str, bound: Mapping[str, Value]) -> None:
    left, sign, right = _COMPARISON.split(clause)
    low, high = (left, right) if sign == "<" else (right, left)
    if not evaluate(low, bound) < evaluate(high, bound):  # type: ignore[operator]
        raise ValueError("the comparison is false")


def evaluate(text: str, bound: Mapping[str, Value]) -> Value:
    """The value of an expression of integers, + - * / mod, bits with and, or, not, lists and their functions.

    Division is exact. Raises ValueError, SyntaxError, KeyError (a name without a value), TypeError or ZeroDivisionError.
    """
    if _INTEGER.fullmatch(text):
        return int(text)
    if simple := _SIMPLE.fullmatch(text):
        left, right = int(simple[1]), int(simple[3])
        return left + right if simple[2] == "+" else left - right if simple[2] == "-" else left * right
    value = _value(_parse(text), bound)
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else value


@lru_cache(maxsize=4096)
def _parse(text: str) -> ast.expr:
    return ast.parse(_IMPLICIT_PRODUCT.sub(" * ", text.strip()).replace(" mod ", " % "), mode="eval").body


def _value(node: ast.expr, bound: Mapping[str, Value]) -> Any:
    match node:
        case ast.Constant(value=int() as number) if type(number) is int:
            return number
        case ast.Name(id=name):
            return bound[name]
        case ast.List(elts=items):
            return tuple(_value(item, bound) for item in items)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            values = [_value(item, bound) for item in arguments]
            return _FUNCTIONS[name](*values)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, bound)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return int(not _value(operand, bound))
        case ast.BoolOp(op=operator, values=parts):
            combine = all if isinstance(operator, ast.And) else any
            return int(combine([_value(part, bound) for part in parts]))
        case ast.BinOp(left=left, op=operator, right=right):
            return _operate(operator, _value(left, bound), _value(right, bound))
    raise ValueError(f"{ast.unparse(node)} is no arithmetic")


def _operate(operator: ast.operator, left: Any, right: Any) -> Any:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return Fraction(left) / Fraction(right)
        case ast.Mod():
            return left % right
    raise ValueError("an unknown operator")


def _show(value: Value) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
