"""What HTTP says in terms of the engine's port: bodies as the server spells them, answers as errors.

The same for the operator's client and for the command line's, and free of both of their libraries.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

from sidecarpolicy.engine.port import (
    NAMESPACE_TERMINATING,
    PATCH_DOES_NOT_FIT,
    ApiError,
    Conflict,
    NotFound,
    Rejected,
    Resource,
    Transient,
)

PAGE: Final = 500  # objects in one answer to a LIST
MOST_WAIT: Final = 600.0  # seconds that are waited because an answer asks for it: what is between may say anything
_MESSAGE_LIMIT: Final = 1024  # characters of the server's message that are worth keeping

# In JSON these stand inside strings only. (encoding/json, SetEscapeHTML)
_ESCAPES: Final = tuple(
    (character.encode(), f"\\u{ord(character):04x}".encode()) for character in ("&", "<", ">", "\u2028", "\u2029")
)

# A strict PATCH is refused with the whole object in the message, environment and all: keep what follows it.
_QUOTED_OBJECT: Final = re.compile(r'^.*patch: Invalid value: ".*": ', re.DOTALL)


def what_of(resource: Resource, namespace: str, name: str, subresource: str = "") -> str:
    """Return what a person calls it: `deployments.apps shop/cart`."""
    kind = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    kind += f"/{subresource}" if subresource else ""
    return f"{kind} {namespace + '/' if namespace else ''}{name}".rstrip()


def error_of(verb: str, what: str, answer: bytes, *, status: int, phrase: str, retry_after: str = "") -> ApiError:
    """Return the error that an answer is; the one place where HTTP becomes the tree of `engine.port`.

    *phrase* is what HTTP calls the *status*, *retry_after* the header, if any.
    """
    reason, message = _reason_and_message(answer, status, phrase)
    if status == 409:
        return Conflict(verb=verb, what=what, message=message, status=status, reason=reason)
    if status == 404:
        return NotFound(verb=verb, what=what, message=message, status=status, reason=reason)
    if status in (401, 408, 410, 429) or status >= 500:
        return Transient(
            verb=verb,
            what=what,
            message=message,
            status=status,
            reason=reason,
            # A date (which no API server sends) is no wish.
            retry_after=min(float(retry_after), MOST_WAIT) if retry_after.isdecimal() else None,
        )
    return Rejected(verb=verb, what=what, message=message, status=status, reason=reason)


def _reason_and_message(answer: bytes, code: int, phrase: str) -> tuple[str, str]:
    """Return the reason and message of a Status object, or what can be told of an answer that is none."""
    try:
        status = orjson.loads(answer)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = answer.decode(errors="replace").strip()[:_MESSAGE_LIMIT]
        return "", f"{code} {phrase}" + (f": {text}" if text else "")
    reason, message = status.get("reason", ""), status.get("message", "")
    details = status.get("details", {})
    if code == 422 and not details:
        return PATCH_DOES_NOT_FIT, "the patch does not fit the object: a test failed or a path is not there"
    if any(cause.get("reason") == NAMESPACE_TERMINATING for cause in details.get("causes", ())):
        reason = NAMESPACE_TERMINATING
    message = _QUOTED_OBJECT.sub("", message)
    if len(message) > _MESSAGE_LIMIT:  # the server quotes what it refuses, and says why at the end
        message = f"{message[: _MESSAGE_LIMIT // 2]} … {message[-_MESSAGE_LIMIT // 2 :]}"
    return reason, message


def decoded(text: bytes) -> Any:
    """Return the value of an answer's JSON; raise ValueError or RecursionError where it is none.

    The server gives a RawExtension (`ControllerRevision.data`) back as somebody sent it. Half a surrogate pair in one,
    which orjson does not take, is a question mark: it must not keep everything else from being read.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return orjson.loads(json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace"))


def encoded(body: object) -> bytes:
    """Return *body* as JSON, spelt as Go's encoder spells it: `&`, `<`, `>` and two separators escaped.

    The server keeps the bytes of a RawExtension (`ControllerRevision.data`) as they were sent, and writes them anew,
    so spelt, when it applies a patch; where both differ it refuses the patch, since the field is immutable.
    """
    text = orjson.dumps(body)
    for character, escape in _ESCAPES:
        if character in text:
            text = text.replace(character, escape)
    return text
