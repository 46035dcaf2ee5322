"""From values to text: block YAML, flow YAML and JSON, laid out as what stands around it.

Every string is written so that kubectl, PyYAML and YAML 1.2 read a string again; key order is kept. Nothing here knows
where the text goes: lines come without the indentation of their place.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from sidecarpolicy.manifests.scalars import may_stand_plain

# What may stand in a block scalar as it is: no control character, and nothing that another library takes for a break.
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How block YAML is laid out: spaces per level, and by how much the dashes of a list stand deeper than its key.

    *blocks*: whether texts of many lines are written as block scalars.
    """

    step: int = 2
    dashes: int = 0
    blocks: bool = True


PLAIN_STYLE = Style()


def block(value: Any, style: Style = PLAIN_STYLE) -> list[str]:
    """Return the lines of *value* as block YAML; a single line where it is a scalar or empty."""
    if isinstance(value, dict) and value:
        return [line for key, content in value.items() for line in entry(key, content, style)]
    if isinstance(value, list) and value:
        return [line for content in value for line in item(content, style)]
    return scalar(value, style)


def entry(key: str, value: Any, style: Style = PLAIN_STYLE) -> list[str]:
    """Return the lines of one entry of a block mapping."""
    name = _name(key)
    if isinstance(value, dict) and value:
        return [f"{name}:", *_indented(block(value, style), style.step)]
    if isinstance(value, list) and value:
        return [f"{name}:", *_indented(block(value, style), style.dashes)]
    first, *rest = scalar(value, style)
    return [f"{name}: {first}", *rest]


def item(value: Any, style: Style = PLAIN_STYLE) -> list[str]:
    """Return the lines of one item of a block list."""
    is_collection = isinstance(value, dict | list) and bool(value)
    first, *rest = block(value, style)
    return [f"- {first}", *(_indented(rest, 2) if is_collection else rest)]


def scalar(value: Any, style: Style = PLAIN_STYLE) -> list[str]:
    """Return the lines of a scalar or an empty collection: one, or a block scalar with its header."""
    if isinstance(value, str) and style.blocks and "\n" in value and _may_be_block(value):
        return _block_scalar(value, style)
    return [flow_scalar(value, in_flow=False)] if isinstance(value, str) else [flow(value)]


def flow(value: Any) -> str:
    """Return *value* on one line, as flow YAML."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_name(key, in_flow=True)}: {flow(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(flow(each) for each in value) + "]"
        case str():
            return _text(value)
        case _:
            return json.dumps(value)


def flow_scalar(value: Any, *, in_flow: bool) -> str:
    """Return a scalar on one line; *in_flow*: inside of brackets, where fewer may stand without quotes."""
    return _text(value, in_flow=in_flow) if isinstance(value, str) else json.dumps(value)


def flow_name(key: str) -> str:
    """Return a key on one line, as it stands inside of brackets."""
    return _name(key, in_flow=True)


def json_text(value: Any, *, separators: tuple[str, str], indent: str | None = None) -> str:
    """Return *value* as JSON: on one line without *indent*, otherwise indented by it per level."""
    return json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)


def double_quoted(text: str) -> str:
    """Return *text* in double quotes, which is YAML and JSON alike."""
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _name(key: str, *, in_flow: bool = False) -> str:
    return _text(key, in_flow=in_flow) if "\n" not in key else double_quoted(key)


def _text(text: str, *, in_flow: bool = True) -> str:
    if may_stand_plain(text, in_flow=in_flow):
        return text
    if "\n" in text or "\t" in text or _UNPRINTABLE.search(text):
        return double_quoted(text)
    return "'" + text.replace("'", "''") + "'"


def _may_be_block(text: str) -> bool:
    """Whether a block scalar shows *text* as it is: no line ends in a space, and not only breaks."""
    return bool(text.strip("\n ")) and not _UNPRINTABLE.search(text) and not re.search(r"[ \t](?:\n|\Z)|\A\n*\t", text)


def _block_scalar(text: str, style: Style) -> list[str]:
    lines = text.split("\n")
    ending = len(text) - len(text.rstrip("\n"))
    chomping = {0: "-", 1: ""}.get(ending, "+")
    if ending:
        lines.pop()
    indent = str(style.step) if text[0] in " \n" else ""
    return [f"|{indent}{chomping}", *(f"{' ' * style.step}{line}" if line else "" for line in lines)]


def _indented(lines: list[str], by: int) -> list[str]:
    return [f"{' ' * by}{line}" if line else "" for line in lines] if by else lines
