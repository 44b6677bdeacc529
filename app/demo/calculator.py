"""Exact arithmetic on text from strangers.

The text is parsed with `ast`, never evaluated; only numbers and operators are understood. Every size is bounded, so the
longest calculation takes well under a millisecond and can run in the event loop.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

MAX_LENGTH: Final = 200  # which bounds the depth of the recursion too
MAX_BITS: Final = 1000  # of a numerator or denominator: about 300 digits, and within the range of a float

_SPELLINGS: Final = MappingProxyType(str.maketrans({"^": "**", "×": "*", "·": "*", "÷": "/", "−": "-"}))


class CalculationError(Exception):
    """The text is not a calculation, or one that is refused. The message says why, for the person who typed it."""


@dataclass(frozen=True)
class Calculation:
    """A result and the way to it.

    Attributes:
        expression: what was calculated, in Python's notation.
        result: the value in decimal, such as `84` or `0.333333333333`.
        exact: whether `result` is the value itself; otherwise it is rounded to 12 significant digits.
        steps: every operation in the order in which it was done, such as `3 + 4 = 7`.
    """

    expression: str
    result: str
    exact: bool
    steps: tuple[str, ...]


def calculate(text: str) -> Calculation:
    """Work out `text`: numbers, parentheses and `+ - * / // % **` (also `^ × · ÷ −`), with Python's precedence.

    Values are exact fractions: `0.1 + 0.2` is `0.3`.

    Raises:
        CalculationError: the text is too long, no arithmetic, or divides by zero, or a number grows too large.
    """
    if len(text) > MAX_LENGTH:
        raise CalculationError(f"a calculation has at most {MAX_LENGTH} characters, this one has {len(text)}")
    source = text.translate(_SPELLINGS).strip()
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # Beside a syntax error, the parser answers null bytes and deep nesting in ways of its own.
        raise CalculationError("this is not complete arithmetic: check operators and parentheses") from error
    steps: list[str] = []
    result, exact = _decimal(_value(tree.body, steps))
    return Calculation(source, result, exact, tuple(steps))


def _value(node: ast.expr, steps: list[str]) -> Fraction:
    match node:
        # `bool` is an `int` to Python, not to a calculator.
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _number(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, steps)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, steps)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            sign, operation = _OPERATORS[type(op)]
            a = _value(left, steps)
            b = _value(right, steps)
            try:
                value = _bounded(Fraction(operation(a, b)))
            except ZeroDivisionError as error:
                raise CalculationError("division by zero has no result") from error
            steps.append(_step(a, sign, b, value))
            return value
        case _:
            raise CalculationError("only numbers, parentheses and + - * / // % ** are understood")


def _number(number: int | float) -> Fraction:
    if isinstance(number, float) and not math.isfinite(number):
        raise CalculationError("a number is too large")
    # By way of its shortest decimal form, so that 0.1 is one tenth and not the nearest binary fraction.
    return _bounded(Fraction(str(number)) if isinstance(number, float) else Fraction(number))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CalculationError("an exponent must be a whole number")
    # Checked before the work is done; the result itself is checked exactly afterwards.
    if _bits(base) * abs(exponent.numerator) > 4 * MAX_BITS:
        raise CalculationError("a power is too large")
    return base**exponent.numerator


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > MAX_BITS:
        raise CalculationError("a number is too large")
    return value


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _decimal(value: Fraction) -> tuple[str, bool]:
    if value.denominator == 1:
        return str(value.numerator), True
    text = f"{float(value):.12g}"
    return text, Fraction(text) == value


def _step(a: Fraction, sign: str, b: Fraction, value: Fraction) -> str:
    result, exact = _decimal(value)
    return f"{_operand(a)} {sign} {_operand(b)} {'=' if exact else '≈'} {result}"


def _operand(value: Fraction) -> str:
    text, _ = _decimal(value)
    return f"({text})" if value < 0 else text


_OPERATORS: Final = MappingProxyType[type[ast.operator], tuple[str, Callable[[Fraction, Fraction], Fraction | int]]](
    {
        ast.Add: ("+", operator.add),
        ast.Sub: ("-", operator.sub),
        ast.Mult: ("×", operator.mul),
        ast.Div: ("÷", operator.truediv),
        ast.FloorDiv: ("//", operator.floordiv),
        ast.Mod: ("mod", operator.mod),
        ast.Pow: ("^", _power),
    }
)
