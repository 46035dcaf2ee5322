"""Plain scalars as kubectl reads them.

kubectl hands YAML to go.yaml.in/yaml/v2 (resolve.go), which is YAML 1.1 where that is harmless and YAML 1.2 elsewhere:
`y`, `n`, `on` and `off` are booleans, `0644` and `0o644` are octal, `1:30` and `2025-01-01` are strings, and a number
with a fraction of zero is an integer once it has been through JSON.
"""

from __future__ import annotations

import re
from functools import lru_cache
from math import isinf

Scalar = str | int | float | bool | None

WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
NO_NUMBERS = frozenset(f"{sign}.{word}" for word in ("inf", "Inf", "INF") for sign in ("", "+", "-")) | {
    ".nan",
    ".NaN",
    ".NAN",
}

_MAYBE_NUMBER = frozenset("+-.0123456789")
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0[0-7]*|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_POINT_FIRST = re.compile(r"\.[0-9]+(?:[eE][-+]?[0-9]+)?\Z")
_PREFIXES = {"x": 16, "X": 16, "o": 8, "O": 8, "b": 2, "B": 2}
_LEAST, _MOST = -(2**63), 2**64 - 1


class NoJson(ValueError):
    """A number that JSON cannot hold, and which kubectl refuses for that reason."""


@lru_cache(maxsize=4096)
def plain(text: str) -> Scalar:
    """Return what kubectl makes of the unquoted *text*; raise NoJson for infinities and `.nan`."""
    if text in WORDS:
        return WORDS[text]
    if text[0] not in _MAYBE_NUMBER:
        return text
    if text in NO_NUMBERS:
        raise NoJson(f"{text} is no number in JSON")
    return _number(text)


def _number(text: str) -> Scalar:
    if text[0] == ".":
        return _real(text) if _POINT_FIRST.match(text) else text
    digits = text.replace("_", "")
    if _INTEGER.match(digits) and (value := _whole(digits)) is not None:
        return value
    if _FLOAT.match(digits) and (real := _real(digits)) is not digits:
        return real
    return text


def _whole(digits: str) -> int | None:
    """The integer, or None where it does not fit 64 bits."""
    bare = digits.lstrip("+-")
    sign = -1 if digits[0] == "-" else 1
    if len(bare) > 1 and bare[0] == "0":
        base = _PREFIXES.get(bare[1], 8)
        value = sign * int(bare[2:] if bare[1] in _PREFIXES else bare, base)
    else:
        value = sign * int(bare)
    most = _MOST if digits[0] not in "+-" else 2**63 - 1
    return value if _LEAST <= value <= most else None


def _real(digits: str) -> Scalar:
    """The number, whole where nothing follows the point; the text itself where it is too large."""
    value = float(digits)
    if isinf(value):
        return digits
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


# Words that YAML 1.1, YAML 1.2 or kubectl take for something else than a string; what is written must be read alike
# by all of them.
_SEXAGESIMAL_OR_DATE = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}")
_LOOKS_LIKE_NUMBER = re.compile(r"[-+]?(?:\.?[0-9]|\.(?:inf|Inf|INF|nan|NaN|NAN)\Z)")
_PLAIN = re.compile(
    r"(?:-(?=[A-Za-z])|--(?=[A-Za-z]))?[A-Za-z0-9_/.$(][A-Za-z0-9_/.@%+=^$()~:*;<>!?&|'\"\\-]*"
    r"(?: [A-Za-z0-9_/.@%+=^$()~:*;<>!?&|'\"\\-]+)*\Z"
)
_PLAIN_IN_FLOW = re.compile(r"[A-Za-z0-9_/.][A-Za-z0-9_/.@%+=^$()~*;<>!-]*(?: [A-Za-z0-9_/.@%+=^$()~*;<>!-]+)*\Z")


@lru_cache(maxsize=4096)
def may_stand_plain(text: str, *, in_flow: bool = False) -> bool:
    """Whether *text* may be written without quotes: every YAML library reads the same string again."""
    if not text or text in WORDS or text in NO_NUMBERS or text in ("=", "<<") or len(text) > 1024:
        return False
    if _LOOKS_LIKE_NUMBER.match(text) and not _is_surely_no_number(text):
        return False
    if in_flow:
        return bool(_PLAIN_IN_FLOW.match(text)) and not text.startswith("---")
    return bool(_PLAIN.match(text)) and ": " not in text and not text.endswith(":") and not text.startswith("...")


def _is_surely_no_number(text: str) -> bool:
    """Of a text that begins like a number: whether a letter that no number has makes it none (`10m`, `1.36-alpine`)."""
    if _SEXAGESIMAL_OR_DATE.match(text):
        return False
    return bool(re.search(r"[g-wyzG-WYZ/@%()$]", text)) and not re.match(r"[-+]?0[xXoObB]", text)
