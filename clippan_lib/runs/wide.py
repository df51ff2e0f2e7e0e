"""The numbers of a run as wide tables: a row per method, a column per metric, printed so that they can be read."""

import pandas as pd

from clippan_lib.figures.tables import as_text, header, placed_where_known, precision
from clippan_lib.metrics import BETTER

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def pivot(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A wide table of numbers: the mean over scenes, then mean and standard deviation over seeds.

    Args:
        rows: one table of `results.frames`.
    Returns: two tables of the same shape. Rows are told apart by method and variant, as far as they apply; columns are
        metrics. The first is NaN where a value is missing, the second also where there is one seed, or none.
    """
    names = [key for key in ("method", "variant") if rows[key].notna().any()] or ["method"]
    rows = rows.assign(**{key: rows[key].fillna("") for key in names})
    seeds = rows.groupby([*names, "metric", "seed"], sort=False, dropna=False)["value"].apply(_mean)
    grouped = seeds.groupby([*names, "metric"], sort=False)
    order = pd.MultiIndex.from_frame(rows[names].drop_duplicates())
    order = order if len(names) > 1 else order.get_level_values(0)
    mean, spread = (
        table.unstack("metric").reindex(index=order, columns=rows["metric"].unique())
        for table in (grouped.apply(_mean), grouped.std())
    )
    return mean, spread


def _mean(values: pd.Series) -> float:
    return values.mean(skipna=False)


def displayed(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table to be read, of the numbers of `pivot`: units and directions in its headers, mean ± standard deviation.

    A column of tiny numbers has a power of ten beside its unit.

    Args:
        rows: one table of `results.frames`.
    Returns: the table as text, with the names of its rows as index; and, of the same shape, 1 where a score is the
        best of its column, 2 where it is the second best, else 0. Numbers that belong to no method and no variant
        stand below one another.
    """
    text, placed = printed(*pivot(rows), rows)
    if rows[["method", "variant"]].isna().all(axis=None):
        text = text.T.set_axis(["value"], axis=1).rename_axis("metric")
        placed = pd.DataFrame(0, text.index, text.columns)
    return text, placed


def printed(
    mean: pd.DataFrame, spread: pd.DataFrame, rows: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables of `pivot`, or others of their shape, as `displayed` gives them.

    Args:
        mean: columns are metrics.
        spread: stands behind ±.
        rows: say the unit of each metric.
    """
    units = rows.drop_duplicates("metric").set_index("metric")["unit"]
    powers, digits = {}, {}
    for metric in mean:
        powers[metric], digits[metric] = precision(metric, pd.concat([mean[metric], spread[metric]]))
    scale = pd.Series({metric: 10.0**power for metric, power in powers.items()})
    mean, spread = mean / scale, spread / scale
    text, placed = as_text(mean, digits, spread, no_zeros=True), placed_where_known(mean, BETTER, digits)
    headers = [
        header(metric, _unit(units[metric] if pd.notna(units[metric]) else None, powers[metric]))
        for metric in mean
    ]
    text, placed = (table.set_axis(headers, axis=1) for table in (text, placed))
    return text, placed


def _unit(unit: str | None, power: int) -> str | None:
    """The unit of a column, with its power of ten."""
    scale = f"10{str(power).translate(_RAISED)}" if power else None
    return " ".join(filter(None, (scale, unit))) or None
