"""The numbers of a run: one table, `metrics.json`, with one row per number; `metrics.csv` holds the same.

    pd.read_json(folder / "metrics.json").query("metric == 'MPSNR' and resolution == 'reduced'")

Columns, null where one does not apply:
    notebook, table     which notebook recorded the number, and in which of its tables
    method              what made the image that is judged
    variant             what distinguishes two rows of one method, or of none: a state, a text, what is subtracted
    seed, scene         of which training, and on which image; rows are not averaged over them
    resolution          of the scene, "full" or "reduced"
    metric, value, unit the number; null if it is not finite
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import chain
from numbers import Real
from pathlib import Path
from types import NoneType
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from pandas.io.formats.style import Styler

from clippan_lib.errors import ResultsError
from clippan_lib.evaluation.scores import DIFFERENCE
from clippan_lib.figures.tables import unit_of
from clippan_lib.files import read_json, write_text
from clippan_lib.runs.folder import RunFolder

FILE, CSV = "metrics.json", "metrics.csv"
GATES = "Gates of the supervisor"  # the table of what it is worth as a judge
KEYS = ("method", "variant", "seed", "scene", "resolution")
NUMBER = ("metric", "value", "unit")
COLUMNS = ("notebook", "table", *KEYS, *NUMBER)
# What each of them is in the file
_KINDS: dict[str, tuple[type, ...]] = dict.fromkeys(COLUMNS, (str, NoneType)) | {
    "notebook": (str,),
    "table": (str,),
    "metric": (str,),
    "seed": (int, NoneType),
    "value": (int, float, NoneType),
}
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 120},
    "pdf": {"dpi": 300, "metadata": {"CreationDate": None}},
}
_HEADER = re.compile(r"(?P<metric>.*?)(?: \((?P<unit>[^()]*)\))?")


def tidy(scores: pd.DataFrame, **same: Any) -> pd.DataFrame:
    """One row per number of a wide table, for `record`.

    A metric that has values at one resolution and none at the other does not apply there, and has no row.

    Args:
        scores: columns and index levels named in `KEYS` say what a row is about, as those of `evaluation.scores` do;
            every other column is a metric, "name (unit)" or the name of one whose unit is known.
        same: values of `KEYS` that hold for all rows, such as resolution="full".
    Returns: columns `KEYS`, metric, value, unit.
    Raises: ResultsError on an index without a name or with another, on another name in `same`, or one given twice.
    """
    levels = [level for level in scores.index.names if level is not None]
    given = [*levels, *scores.columns.intersection(list(KEYS)), *same]
    if foreign := [name for name in (*levels, *same) if name not in KEYS]:
        raise ResultsError(
            f"rows are told apart by {', '.join(KEYS)}, not by {foreign}: rename_axis, or reset_index"
        )
    if len({*given}) < len(given):
        raise ResultsError(f"{given}: say each of them once")
    if not levels and not is_integer_dtype(scores.index):
        raise ResultsError(
            f"the index {list(scores.index)} has no name: rename_axis to one of {', '.join(KEYS)}"
        )
    table = scores.reset_index(drop=not levels).assign(**same)
    keys = [key for key in KEYS if key in table]
    rows = table.melt(keys, var_name="metric", ignore_index=False).sort_index(kind="stable")
    found = rows["metric"].map(lambda name: _HEADER.fullmatch(name).groupdict())  # type: ignore[union-attr]  # fits all names
    rows["metric"] = [each["metric"] for each in found]
    rows["unit"] = [each["unit"] or unit_of(each["metric"]) for each in found]
    return rows[_applies(rows)].reindex(columns=[*KEYS, *NUMBER]).reset_index(drop=True)


def _applies(rows: pd.DataFrame) -> pd.Series:
    there, place = rows["value"].notna(), [rows["metric"]]
    if "resolution" in rows:
        place.append(rows["resolution"])
    return there.groupby(place, dropna=False).transform("any") | ~there.groupby(rows["metric"]).transform(
        "any"
    )


def tidy_differences(differences: Mapping[str, pd.DataFrame], baseline: str, **same: Any) -> pd.DataFrame:
    """One row per paired difference and seed, for `record`: the metric is "MPSNR difference", the variant "minus pnn".

    Args:
        differences: method to a table from `evaluation.scores.paired`.
        baseline: what was subtracted.
        same: as of `tidy`.
    Returns: as of `tidy`.
    """
    table = pd.concat(differences, names=["method"]).add_suffix(DIFFERENCE)
    return tidy(table, variant=f"minus {baseline}", **same)


def _place(run_dir: str | Path) -> RunFolder:
    return RunFolder(Path(run_dir))


def record(run_dir: str | Path, notebook: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Put a notebook's numbers into the run's table, in the place of those it had recorded before.

    Args:
        run_dir: the run's folder, made if needed.
        notebook: its name, e.g. "04_stage2_training".
        tables: title to rows as `tidy` makes them; of `KEYS` those that do not apply may be left out.
    Raises: ResultsError on rows that lack metric, value or unit, that have other columns, a value that is no number,
        or two values of the same; nothing is written then.
    """
    folder, rows = _place(run_dir).results, [_rows(notebook, title, table) for title, table in tables.items()]
    folder.mkdir(parents=True, exist_ok=True)
    kept = [row for row in _read(folder) if row["notebook"] != notebook]
    _write(folder, sorted(chain(kept, *rows), key=lambda row: row["notebook"]))


def _rows(notebook: str, title: str, table: pd.DataFrame) -> list[dict[str, Any]]:
    where, choices = f"{notebook}, table {title!r}", [*KEYS, *NUMBER]
    if missing := [name for name in NUMBER if name not in table]:
        raise ResultsError(
            f"{where} lacks the columns {missing}; it has {list(table)}: make its rows by `tidy`"
        )
    if unknown := [name for name in table if name not in choices]:
        raise ResultsError(f"{where} has the columns {unknown}; a row has only {', '.join(choices)}")
    same = table.duplicated([name for name in table if name in (*KEYS, "metric")])
    if twice := table.loc[same, "metric"].tolist():
        raise ResultsError(
            f"{where} has two values of {twice[0]} for the same {', '.join(KEYS)}: tell them apart"
        )
    rows = table.reindex(columns=choices).to_dict("records")
    return [{"notebook": notebook, "table": title} | _plain(row, where) for row in rows]


def _plain(row: dict[str, Any], where: str) -> dict[str, Any]:
    plain = {name: None if pd.isna(value) else value for name, value in row.items()}
    value, seed = plain["value"], plain["seed"]
    if plain["metric"] is None:
        raise ResultsError(f"{where} has a row without the name of its metric")
    if isinstance(value, bool) or not isinstance(value, Real | None):
        raise ResultsError(
            f"{where}, {row['metric']}: {value!r} is no number; record numbers, format them to show"
        )
    whole = isinstance(seed, Real) and float(seed).is_integer()
    if seed is not None and not whole:
        raise ResultsError(f"{where}, {row['metric']}: seed {seed!r} is no whole number")
    texts = {name: each if each is None else str(each) for name, each in plain.items()}
    number = float(value) if value is not None and math.isfinite(value) else None
    return texts | {"seed": None if seed is None else int(seed), "value": number}


def _read(folder: Path) -> list[dict[str, Any]]:
    path = folder / FILE
    try:
        content = read_json(path)
        rows = [] if content is None and not path.exists() else content
        if not isinstance(rows, list) or not all(map(_is_row, rows)):
            raise ValueError("it holds other things")
        _frame(rows)
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ResultsError(
            f"{path} is no table with the columns {', '.join(COLUMNS)} ({error}): delete it and run again"
        ) from None
    return rows


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or {*row} != {*COLUMNS}:
        return False
    number = row["value"]
    return all(type(row[name]) in kinds for name, kinds in _KINDS.items()) and (
        number is None or math.isfinite(number)
    )


def digest(run_dir: str | Path, notebook: str | None = None) -> str:
    """SHA-256 of the run's table, or of the rows of one notebook: whether they are still those that it recorded.

    Raises: ResultsError on a file that is not such a table.
    """
    rows = [row for row in _read(_place(run_dir).results) if notebook in (None, row["notebook"])]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    if not rows:
        for name in (FILE, CSV):
            (folder / name).unlink(missing_ok=True)
        return
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(folder / FILE, f"[\n{lines}\n]\n")
    write_text(folder / CSV, _frame(rows).to_csv(index=False, lineterminator="\n"))


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"seed": "Int64", "value": float})


def load(run_dir: str | Path) -> pd.DataFrame:
    """The run's table, with columns `COLUMNS`; no row if nothing is recorded.

    Raises: ResultsError on a file that is not such a table.
    """
    return _frame(_read(_place(run_dir).results))


def keep(run_dir: str | Path, wanted: Callable[[str], bool]) -> None:
    """Drop the rows of notebooks whose name is not wanted, and the files with the last of them."""
    _write(
        _place(run_dir).results, [row for row in _read(_place(run_dir).results) if wanted(row["notebook"])]
    )


def frames(run_dir: str | Path) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of a run, table by table and each resolution for itself, by (notebook, title)."""
    grouped = load(run_dir).groupby(["notebook", "table", "resolution"], sort=False, dropna=False)
    return {
        (notebook, title if pd.isna(resolution) else f"{title}, {resolution} resolution"): rows
        for (notebook, title, resolution), rows in grouped
    }


def save_figure(run_dir: str | Path, name: str, figure: Figure) -> Figure:
    """Keep a figure as figures/<name>.png and .pdf of a run, and hand it on to be shown.

    The PDF is for print: text stays text (embedded TrueType), and the same figure gives the same bytes.
    """
    folder = _place(run_dir).figures
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
        name: name of the file, without its ending.
        table: as `figures.best_in_bold` gives it; bold stays bold.
    """
    folder = _place(run_dir).tables
    folder.mkdir(parents=True, exist_ok=True)
    escaped = deepcopy(table).format_index(escape="latex", axis="columns").format_index(escape="latex")
    texts = [name for name in table.data if not is_numeric_dtype(table.data[name])]
    escaped = escaped.format(escape="latex", na_rep="-", subset=texts) if texts else escaped
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
