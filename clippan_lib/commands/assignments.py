"""Settings as a command line gives them: text that becomes typed values."""

import re
from collections.abc import Iterable
from typing import Any

from clippan_lib.data.fields import parse
from clippan_lib.errors import Refusal

# YAML 1.1 takes 1e-4 for text, because it lacks a dot.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """What the options -p say: `name=value` with the value read as YAML: 3, 1e-4, true, null, wald, [1, 2].

    Raises: Refusal on a text of another form, or a name that is given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, value = _parsed(text)
        if name in found:
            raise Refusal(f"-p {name} is given twice")
        found[name] = value
    return found


def _parsed(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise Refusal(f"-p {text!r} is not of the form name=value")
    try:
        content = parse(value)
    except ValueError as error:
        shown = text if len(text) <= 200 else f"{text[:200]} ..."
        raise Refusal(
            f"-p {shown!r}: the value is not valid YAML; put quotes around text ({error})"
        ) from None
    if isinstance(content, str) and _NUMBER.fullmatch(value.strip()):  # quotes mean text
        content = float(content)
    return name.strip(), content
