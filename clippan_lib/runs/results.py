"""The numbers of a run: `metrics.json`, one section per notebook."""

import json
import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from clippan_lib.files import read_json, write_json, write_text

FILE = "metrics.json"
_FORMATS = {"png": {"dpi": 120}, "pdf": {"dpi": 300, "metadata": {"CreationDate": None}}}


def record(
    run_dir: str | Path,
    section: str,
    tables: Mapping[str, pd.DataFrame] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Put a notebook's numbers into the run's `metrics.json`, replacing what its section held.

    Args:
        run_dir: the run's folder, made if needed.
        section: the notebook's name, e.g. "04_stage2_training".
        tables: title to table; a named index becomes columns, NaN and infinity become null.
        facts: single values that JSON can hold.
    """
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    sections = load(folder)["sections"]
    content = {title: _content(table) for title, table in (tables or {}).items()}
    sections[section] = {"tables": content, "facts": dict(facts or {})}
    write_json(folder / FILE, {"sections": dict(sorted(sections.items()))})


def load(run_dir: str | Path) -> dict[str, Any]:
    """The content of a run's `metrics.json`; no section if the file is not there."""
    return read_json(Path(run_dir) / FILE) or {"sections": {}}


def keep(run_dir: str | Path, wanted: Callable[[str], bool]) -> None:
    """Drop the sections whose name is not wanted, and the file with the last of them."""
    path = Path(run_dir) / FILE
    sections = {name: section for name, section in load(run_dir)["sections"].items() if wanted(name)}
    if sections:
        write_json(path, {"sections": sections})
    else:
        path.unlink(missing_ok=True)


def frames(run_dir: str | Path) -> dict[tuple[str, str], pd.DataFrame]:
    """All tables of a run, by (section, title)."""
    return {
        (name, title): pd.DataFrame(table["rows"], columns=table["columns"])
        for name, section in load(run_dir)["sections"].items()
        for title, table in section["tables"].items()
    }


def save_figure(run_dir: str | Path, name: str, figure: Figure) -> Figure:
    """Keep a figure as figures/<name>.png and .pdf of a run, and hand it on to be shown.

    The PDF is for print: text stays text (embedded TrueType), and the same figure gives the same bytes.
    """
    folder = Path(run_dir) / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{name}.tmp"
    for ending, how in _FORMATS.items():
        with rc_context({"pdf.fonttype": 42}):
            figure.savefig(temporary, format=ending, **how)
        os.replace(temporary, folder / f"{name}.{ending}")
    return figure


def save_latex(run_dir: str | Path, name: str, table: Styler) -> None:
    """Keep a table as tables/<name>.tex of a run, for a paper that loads booktabs.

    Args:
        run_dir: the run's folder.
        name: of the file, without its ending.
        table: as `figures.best_in_bold` gives it; bold stays bold.
    """
    folder = Path(run_dir) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    escaped = deepcopy(table).format_index(escape="latex", axis="columns").format_index(escape="latex")
    write_text(folder / f"{name}.tex", escaped.to_latex(hrules=True, convert_css=True))


def compared(values: Mapping[str, float], recorded: Mapping[str, float], tolerance: float) -> str:
    """Trained numbers beside those of the stored demo, for a check that a wrong number must fail.

    The last digits of a training differ between processors. A number within the tolerance is therefore printed as
    it was recorded, any other as it is: the text is the stored one exactly if all agree.

    Args:
        values: name to number.
        recorded: the same names, as the stored demo had them.
        tolerance: largest difference that is taken for rounding.
    Returns: one line per number.
    Raises: ValueError if the names differ.
    """
    if set(values) != set(recorded):
        raise ValueError(f"values have {sorted(values)}, recorded are {sorted(recorded)}")
    lines = []
    for name, expected in recorded.items():
        agrees = abs(values[name] - expected) <= tolerance
        lines.append(
            f"{name}: {expected:g} (± {tolerance:g})"
            if agrees
            else f"{name}: {values[name]:.4g}; the stored demo has {expected:g} (± {tolerance:g})"
        )
    return "\n".join(lines)


def _content(table: pd.DataFrame) -> dict[str, list]:
    if any(table.index.names):
        table = table.reset_index()
    levels = [name if isinstance(name, tuple) else (name,) for name in table.columns]
    columns = [" ".join(map(str, name)).strip() for name in levels]
    rows = json.loads(table.to_json(orient="values", double_precision=15))
    return {"columns": columns, "rows": rows}
