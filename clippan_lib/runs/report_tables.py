"""The numbers of a run as tables of its page: no wider than it, truth before indices, each with what it says."""

import math
from collections.abc import Iterator, Mapping

import pandas as pd

from clippan_lib.evaluation.intervals import confidence_interval
from clippan_lib.evaluation.scores import DIFFERENCE
from clippan_lib.figures.page import PageTable, table_of
from clippan_lib.figures.prose import difference
from clippan_lib.figures.tables import DIGITS, unit_of
from clippan_lib.metrics import BETTER, WITH_TRUTH
from clippan_lib.runs import results, topics
from clippan_lib.runs.wide import displayed, pivot, printed

_SCORES = "Scores"
_ACROSS = 6  # columns of any name that fit a page
Parts = Iterator[tuple[str, PageTable]]


def tables_of(rows: pd.DataFrame, ours: str, links: Mapping[str, str]) -> Parts:
    """One table of `results.frames`, in as many parts as are needed, each with the topic under which it stands.

    Args:
        rows: of the table.
        ours: name of the run's own network with the language term.
        links: metric to the address of its explanation.
    """
    notebook, title, resolution = rows[["notebook", "table", "resolution"]].iloc[0]
    topic = topics.topic_of_table(notebook, title)
    name = topics.name_of_table(notebook, title)
    name = name if pd.isna(resolution) else f"{name}, {resolution} resolution"
    source = f"From {notebook}."
    metrics = rows["metric"].str.removesuffix(DIFFERENCE)
    if rows["metric"].str.endswith(DIFFERENCE).all():
        yield topic, _changes(rows, name, source, links)
    elif title == _SCORES and metrics.isin([*BETTER]).all():
        known = metrics.isin(WITH_TRUTH)
        moved = topic if topic in (topics.SCENE, topics.TEXTS) else None
        for part, heading, kind in (
            (rows[known], topics.TRUTH, "against the truth"),
            (rows[~known], topics.NO_TRUTH, "without a truth"),
        ):
            if len(part):
                said = f"{_standing(part, ours)} {topics.says(name)} {source}"
                yield moved or heading, _plain(part, f"{name}, {kind}", said, links)
    else:
        yield topic, _plain(rows, name, f"{topics.says(name)} {_passed(rows)} {source}", links)


def _plain(rows: pd.DataFrame, title: str, note: str, links: Mapping[str, str]) -> PageTable:
    text, placed = displayed(rows)
    heads = zip(text, rows["metric"].unique(), strict=False)
    known = {head: links[metric] for head, metric in heads if metric in links}
    if text.shape[1] > max(_ACROSS, len(text)) and not rows["metric"].isin([*BETTER]).any():
        text, placed = (_turned(table) for table in (text, placed))
    return table_of(text, placed, title, note, known)


def _turned(table: pd.DataFrame) -> pd.DataFrame:
    """Metrics below one another, where they have long names and few rows."""
    names = [name if isinstance(name, str) else ", ".join(name) for name in table.index]
    return table.set_axis(names).T.rename_axis("metric")


def _changes(rows: pd.DataFrame, title: str, source: str, links: Mapping[str, str]) -> PageTable:
    """Differences: a row per metric, as there are many, and a column per comparison."""
    names = rows["method"].str.cat(rows["variant"].fillna(""), sep=" ").str.strip()
    grouped = rows.assign(name=names).groupby(["name", "metric"], sort=False)["value"]
    found = grouped.apply(_interval).unstack("metric").reindex(names.unique())
    found = found[rows["metric"].unique()]
    text, _ = printed(found.map(lambda pair: pair[0]), found.map(lambda pair: pair[1]), rows)
    known = {
        head: links[metric.removesuffix(DIFFERENCE)]
        for head, metric in zip(text, found, strict=True)
        if metric.removesuffix(DIFFERENCE) in links
    }
    text = text.T.rename_axis("metric")
    base = found.columns[0].removesuffix(DIFFERENCE)
    unit, digits = unit_of(base) or "", DIGITS.get(base, 4)
    told = "; ".join(
        f"{name}: {difference(mean, half, unit, digits)}" for name, (mean, half) in found.iloc[:, 0].items()
    )
    seeds = "Behind ± stands half of the 95 % interval over the seeds."
    if found.map(lambda pair: math.isnan(pair[1])).all(axis=None):
        seeds = "One seed allows no interval."
    said = f"{base}, {told}. {seeds} {source}"
    return table_of(text, pd.DataFrame(0, text.index, text.columns), title, said, known)


def _interval(values: pd.Series) -> tuple[float, float]:
    """Mean and half width of Student's 95 % interval; NaN where a value is missing."""
    if values.isna().any():
        return math.nan, math.nan
    return confidence_interval(values.to_numpy(dtype=float))


def _standing(rows: pd.DataFrame, ours: str) -> str:
    """Who is best in the first metric of a table of methods, and where ours stands."""
    metric = rows["metric"].iloc[0]
    mean, _ = pivot(rows[rows["metric"] == metric])
    column = mean[metric].dropna()
    if len(column) < 2:
        return ""
    ordered = column.sort_values(ascending=BETTER[metric] == "low", kind="stable")
    unit = unit_of(metric)
    best = f"{ordered.iloc[0]:.{DIGITS[metric]}f}" + (f" {unit}" if unit else "")
    said = f"Best in {metric}: {ordered.index[0]} ({best})"
    if ours not in ordered.index or ordered.index[0] == ours:
        return f"{said}."
    return f"{said}; {ours} is number {list(ordered.index).index(ours) + 1} of {len(ordered)}."


def _passed(rows: pd.DataFrame) -> str:
    passed = rows[rows["metric"] == "passed"]["value"] if rows["table"].iloc[0] == results.GATES else []
    return f"It passes {sum(passed):.0f} of {len(passed)}." if len(passed) else ""
