"""Parameters of notebooks: read from their tagged cell, checked before anything runs, or where they arrive."""

import ast
import difflib
from collections.abc import Collection, Iterable, Mapping
from os.path import isfile
from pathlib import Path
from typing import Any

from IPython import get_ipython
from pydantic import ConfigDict, TypeAdapter, ValidationError

from clippan_lib.errors import Refusal

TAG = "parameters"
# What the runner gives to every notebook that has it, and how the user sets it.
OWN = {
    "manifest": "the first argument",
    "data_root": "--data",
    "run_dir": "--name",
    "runs": "the folder that the command is called in",
    "preset": "--preset",
    "seed": "--seed",
    "device": "--device",
    "overrides": "-p field=value",
    "plugin": "--plugin",
}
_INJECTED = "# Parameters\n"  # how the cell begins that papermill puts behind the tagged one


def notebook_parameters(path: Path) -> dict[str, Any]:
    """Names and default values of a notebook's parameters.

    Args:
        path: a notebook with one cell tagged `parameters`, which assigns literals to names and nothing else.
    Raises: Refusal naming the notebook if that is not so.
    """
    import nbformat  # more than a second, which a notebook that opens its run need not wait

    cells = [cell for cell in nbformat.read(path, 4).cells if TAG in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise Refusal(f"{path.name}: {len(cells)} cells are tagged {TAG!r}; there must be one")
    try:
        return _assigned(cells[0].source)
    except (SyntaxError, ValueError) as error:
        raise Refusal(f"{path.name}: cell {TAG!r} may only assign literals to names: {error}") from error


def _assigned(source: str) -> dict[str, Any]:
    return dict(_literal(statement) for statement in ast.parse(source).body)


def _literal(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, ast.literal_eval(value)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, ast.literal_eval(value)
    raise ValueError(f"line {statement.lineno}")


def sort_changes(
    changes: Mapping[str, Any], fields: Iterable[str], defaults: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sort changes into fields of the configuration and parameters of single notebooks.

    Args:
        changes: name to value, as the user wants them.
        fields: fields of the configuration.
        defaults: per notebook, its parameters' default values.
    Returns: (overrides, extra); the values of `overrides` are not checked yet; of `extra`, files have whole paths, as
        notebooks run in another folder.
    Raises: Refusal on an unknown name, with near matches, a name that has its own option, or a notebook parameter of
        another type than its default.
    """
    fields = set(fields)
    special = {name: value for notebook in defaults.values() for name, value in notebook.items()}
    overrides, extra = {}, {}
    for name, value in changes.items():
        if name in OWN:
            raise Refusal(f"{name} cannot be set among the parameters: set it by {OWN[name]}")
        if name in fields:
            overrides[name] = value
        elif name in special:
            extra[name] = _whole_path(_typed(name, value, special[name]))
        else:
            raise Refusal(_unknown(name, fields | special.keys()))
    return overrides, extra


def _typed(name: str, value: Any, default: Any) -> Any:
    kind = type(default)
    try:
        return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
    except ValidationError:
        raise Refusal(f"{name}: expected {kind.__name__} (as in {default!r}), got {value!r}") from None


def _whole_path(value: Any) -> Any:
    return str(Path(value).resolve()) if isinstance(value, str) and isfile(value) else value


def _unknown(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(known))}"
    return f"{name}: unknown parameter; {hint}"


def refuse_unknown_parameters() -> None:
    """Refuse a parameter that papermill gave to this notebook and that it does not have.

    papermill itself only warns of a misspelt name, and the notebook then runs with the default. Outside a notebook, or
    in one that papermill has not given anything, nothing happens.

    Raises: Refusal naming the parameter, with near matches.
    """
    shell = get_ipython()
    cells = [] if shell is None else list(shell.user_ns.get("In", ()))
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.startswith(_INJECTED):
            try:
                known, given = _assigned(before), _assigned(cell)
            except (SyntaxError, ValueError):
                continue  # not papermill's: somebody's own cell begins so
            for name in given.keys() - known.keys():
                raise Refusal(_unknown(name, known.keys()))
