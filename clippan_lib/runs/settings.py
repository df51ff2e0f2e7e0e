"""Parameters of a run: read from the notebooks, typed from the command line, refused before anything runs."""

from clippan_lib.errors import Refusal
import ast
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

TAG = "parameters"
# What the runner gives to every notebook that has it, and how the user sets it.
OWN = {
    "manifest": "the first argument",
    "data_root": "--data",
    "run_dir": "--name",
    "preset": "--preset",
    "seed": "--seed",
    "device": "--device",
    "overrides": "-p field=value",
}
# YAML 1.1 takes 1e-4 for text, because it lacks a dot.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def parse_assignment(text: str) -> tuple[str, Any]:
    """`name=value` with the value read as a YAML scalar, list or mapping: 3, 1e-4, true, null, wald, [1, 2].

    Raises: Refusal if it is not of that form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise Refusal(f"-p {text!r} is not of the form name=value")
    try:
        content = yaml.safe_load(value)
    except yaml.YAMLError:
        raise Refusal(f"-p {text!r}: the value is not valid YAML; put quotes around text") from None
    if isinstance(content, str) and _NUMBER.fullmatch(content):
        content = float(content)
    return name.strip(), content


def notebook_parameters(path: Path) -> dict[str, Any]:
    """Names and default values of a notebook's parameters.

    Args:
        path: a notebook with one cell tagged `parameters`, which assigns literals to names and nothing else.
    Raises: Refusal naming the notebook if that is not so.
    """
    cells = [cell for cell in nbformat.read(path, 4).cells if TAG in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise Refusal(f"{path.name}: {len(cells)} cells are tagged {TAG!r}; there must be one")
    try:
        return dict(_literal(statement) for statement in ast.parse(cells[0].source).body)
    except (SyntaxError, ValueError) as error:
        raise Refusal(f"{path.name}: cell {TAG!r} may only assign literals to names: {error}") from error


def _literal(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, ast.literal_eval(value)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, ast.literal_eval(value)
    raise ValueError(f"line {statement.lineno}")


def split_assignments(
    assignments: Iterable[str], fields: Iterable[str], defaults: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort `name=value` texts into fields of the configuration and parameters of single notebooks.

    Args:
        assignments: what the user gave with -p.
        fields: fields of the configuration.
        defaults: per notebook, its parameters' default values.
    Returns: (overrides, extra); the values of `overrides` are not checked yet.
    Raises: Refusal on an unknown name, with near matches, one given twice, a name that has its own option, or
        a notebook parameter of another type than its default.
    """
    fields = set(fields)
    special = {name: value for notebook in defaults.values() for name, value in notebook.items()}
    overrides, extra = {}, {}
    for text in assignments:
        name, value = parse_assignment(text)
        if name in OWN:
            raise Refusal(f"-p {name}: set it by {OWN[name]}")
        if name in overrides or name in extra:
            raise Refusal(f"-p {name} is given twice")
        if name in fields:
            overrides[name] = value
        elif name in special:
            extra[name] = _typed(name, value, special[name])
        else:
            raise Refusal(_unknown(name, fields | special.keys()))
    return overrides, extra


def _typed(name: str, value: Any, default: Any) -> Any:
    kind = type(default)
    try:
        return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
    except ValidationError:
        raise Refusal(f"-p {name}: expected {kind.__name__} (as in {default!r}), got {value!r}") from None


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"
    return f"-p {name}: unknown parameter; {hint}"
