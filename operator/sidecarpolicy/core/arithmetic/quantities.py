"""Kubernetes quantities, exactly: `250m`, `64Mi`, `1.5`, `12e6` (apimachinery `resource.Quantity`).

A quantity is read as a Fraction of its base unit (cores, bytes), never as a float. As the API server has it, what is
finer than a billionth is rounded away from zero, and a binary quantity ends at 2^63-1.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil

from sidecarpolicy.core.reading import InvalidInput, Problem

DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}

_QUANTITY = re.compile(
    r"(?P<sign>[+-]?)(?P<number>[0-9]+\.?[0-9]*|\.[0-9]+)"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE]?)|[eE](?P<exponent>[+-]?[0-9]{1,3}))"
)
_LONGEST = 64
_FINEST = 10**9
_MOST_BINARY = 2**63 - 1


def parse_quantity(value: object, path: str = "") -> Fraction:
    """Return the quantity *value* (text, or a number as YAML has it), in base units.

    :raises InvalidInput: where it is none; *path* says where it stands in the author's YAML.
    """
    # A YAML float has been rounded to binary already; its shortest decimal form is what the author wrote.
    text = repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    size = _size(text) if isinstance(text, str) and len(text) <= _LONGEST else None
    if size is None:
        message = f"must be a quantity such as 250m, 1.5 or 64Mi, not {_shown(value)}"
        raise InvalidInput((Problem(path=path, message=message),))
    return size


@lru_cache(maxsize=1024)  # a fleet repeats itself, and reading is half of what the arithmetic costs
def _size(text: str) -> Fraction | None:
    """The quantity *text*, or None where it is none."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    whole, _, decimals = found["number"].partition(".")
    size = Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
    suffix = found["suffix"]
    if suffix in BINARY:
        size = min(_rounded(size * 2 ** BINARY[suffix]), Fraction(_MOST_BINARY))
    else:
        exponent = int(found["exponent"]) if found["exponent"] else DECIMAL[suffix or ""]
        size = _rounded(size * Fraction(10) ** exponent)
    return -size if found["sign"] == "-" else size


@lru_cache(maxsize=1024)
def format_quantity(size: Fraction, *, binary: bool = False) -> str:
    """Return *size* (base units) in canonical form: no fraction, and the largest suffix that loses nothing.

    *binary* prefers Ki, Mi, …, where at least one fits (memory). Reading the text gives *size* again, as far as a
    quantity goes: to a billionth.
    """
    size = -_rounded(-size) if size < 0 else _rounded(size)
    if binary and size.denominator == 1 and size:
        for suffix, power in reversed(BINARY.items()):
            if size.numerator % 2**power == 0:
                return f"{size.numerator >> power}{suffix}"
    if not size:
        return "0"
    suffix, exponent = next(
        (suffix, exponent)
        for suffix, exponent in sorted(DECIMAL.items(), key=lambda each: -each[1])
        if (size / Fraction(10) ** exponent).denominator == 1
    )
    return f"{size / Fraction(10) ** exponent}{suffix}"


def _rounded(size: Fraction) -> Fraction:
    """Round up to a billionth; if somebody wants a little, he gets a little."""
    return Fraction(ceil(size * _FINEST), _FINEST)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
