"""From a campaign's two files to its tables: mean and spread, paired differences, the paper's numbers and order.

Every table is a `Table` of text, which a notebook shows, LaTeX prints and GitHub renders. The numbers behind it are in
`summary`, `differences` and `order`, one line per number.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clippan_lib.campaign import paper
from clippan_lib.evaluation.intervals import confidence_interval, difference_text
from clippan_lib.figures.tables import UNITS, as_text, dressed, markdown, places
from clippan_lib.files import write_text
from clippan_lib.metrics import BETTER
from clippan_lib.runs.results import save_latex

RECORD, SCORES = "campaign.json", "scores.csv"
KEYS = ("dataset", "row", "baseline", "seed", "judged", "status", "run")
STATUS = ("done", "failed", "missing")
# Of a paired difference: its interval lies on one side of 0, contains 0, or does not exist
VERDICTS = ("better", "worse", "open", "no interval")
REFERENCE = ("MPSNR", "ERGAS", "SAM", "Q2n")
# What is always shown; at full resolution scores against a truth follow where there is one
SHOWN = {"reduced": REFERENCE, "full": ("D_lambda", "D_s", "QNR", "HQNR")}
DIGITS = dict.fromkeys(BETTER, 4) | {"MPSNR": 3, "ERGAS": 3, "SAM": 3}
_ARROWS = {"high": "↑", "low": "↓"}
# Fewer rows than this have no order to speak of
_FEWEST = 3


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    title: str


class Record(BaseModel):
    """What `campaign.json` says and the tables need."""

    model_config = ConfigDict(strict=True, frozen=True)

    table: Annotated[int, Field(ge=1, le=5)]
    title: str
    preset: str
    seeds: Annotated[list[int], Field(min_length=1)]
    device: str
    command: str
    commit: str | None
    started: str
    seconds: float | None
    datasets: Annotated[dict[str, _Facts], Field(min_length=1)]

    @property
    def origin(self) -> str:
        """Command, preset, seeds, device, commit, day and time, as one line of markdown."""
        facts = [
            f"preset {self.preset}",
            f"seeds {', '.join(map(str, self.seeds))}",
            f"device {self.device}",
            f"commit {self.commit or 'unknown'}",
            f"begun {self.started[:10]}",
            "not finished" if self.seconds is None else f"{self.seconds / 60:.0f} min",
        ]
        return f"`{self.command}` ({'; '.join(facts)})"


@dataclass(frozen=True)
class Part:
    """One dataset at one resolution of the test scenes.

    Args:
        dataset: the manifest's name.
        title: of dataset and resolution.
        judged: "full" or "reduced".
        lines: of `scores.csv`; a line that is not done has no scores.
        seeds: how many were asked for.
    """

    dataset: str
    title: str
    judged: str
    lines: pd.DataFrame
    seeds: int

    @property
    def rows(self) -> list[str]:
        """Labels, in the table's order."""
        return list(dict.fromkeys(self.lines["row"]))

    @property
    def metrics(self) -> list[str]:
        """Columns of the table."""
        truth = self.judged == "full" and self.lines[list(REFERENCE)].notna().any(axis=None)
        return [*SHOWN[self.judged], *(REFERENCE if truth else ())]

    def of_row(self, row: str) -> pd.DataFrame:
        """Scores by seed of what is done."""
        mine = self.lines[(self.lines["row"] == row) & (self.lines["status"] == "done")]
        return mine.set_index("seed")[self.metrics]

    @property
    def mean(self) -> pd.DataFrame:
        """Over the seeds that are done, row by metric; NaN where none is."""
        return pd.DataFrame({row: self.of_row(row).mean() for row in self.rows}).T

    @property
    def spread(self) -> pd.DataFrame:
        """Standard deviation over the seeds; NaN for one seed, or where all give the very same value."""
        each = {row: self.of_row(row) for row in self.rows}
        return pd.DataFrame({row: table.std().where(table.nunique() > 1) for row, table in each.items()}).T

    @property
    def done(self) -> dict[str, int]:
        """Row to the number of its seeds that are done."""
        return {row: len(self.of_row(row)) for row in self.rows}

    @property
    def pairs(self) -> dict[str, pd.DataFrame]:
        """ "row vs baseline" to row minus baseline, by seed, of the seeds that both have done."""
        baselines = self.lines.drop_duplicates("row").set_index("row")["baseline"]
        return {
            f"{row} vs {baseline}": (self.of_row(row) - self.of_row(baseline)).dropna()
            for row, baseline in baselines.items()
            if baseline
        }

    @property
    def differences(self) -> pd.DataFrame:
        """One line per pair and metric: comparison, metric, mean, half width of the interval, seeds, verdict."""
        return pd.DataFrame(
            _difference(comparison, metric, table[metric].to_numpy())
            for comparison, table in self.pairs.items()
            for metric in self.metrics
        )

    def counted(self, label: str, seeds: int) -> str:
        """A label that says so where seeds are missing."""
        return label if seeds in (0, self.seeds) else f"{label} ({seeds} of {self.seeds} seeds)"


def _difference(comparison: str, metric: str, values: np.ndarray) -> dict[str, Any]:
    mean, half = confidence_interval(values) if values.size else (np.nan, np.nan)
    if np.isnan(half):
        verdict = "no interval"
    elif abs(mean) <= half:
        verdict = "open"
    else:
        verdict = "better" if (mean > 0) == (BETTER[metric] == "high") else "worse"
    numbers = {"mean": mean, "half width": half, "seeds": values.size, "verdict": verdict}
    return {"comparison": comparison, "metric": metric} | numbers


@dataclass(frozen=True)
class Results:
    """What `load` finds.

    Args:
        record: how the campaign was made.
        scores: one line per dataset, row, seed and resolution.
    """

    record: Record
    scores: pd.DataFrame

    @property
    def parts(self) -> list[Part]:
        """A part per dataset and resolution, in the order of the lines."""
        grouped = self.scores.groupby(["dataset", "judged"], sort=False)
        return [
            Part(
                dataset,
                f"{self.record.datasets[dataset].title}: {judged} resolution",
                judged,
                lines,
                len(self.record.seeds),
            )
            for (dataset, judged), lines in grouped
        ]

    @property
    def not_done(self) -> pd.DataFrame:
        """The lines without scores: which, whether failed or missing, and the folder of the run."""
        return self.scores.loc[self.scores["status"] != "done", list(KEYS)].drop(columns="baseline")


@dataclass(frozen=True)
class Table:
    """A table ready to be shown.

    Args:
        name: of its file.
        title: of dataset and resolution.
        text: as it is printed.
        placed: 1 best, 2 second best of a column, 0 others.
        note: how to read it, where `reading` does not say so.
    """

    name: str
    title: str
    text: pd.DataFrame
    placed: pd.DataFrame
    note: str = ""

    @property
    def styled(self) -> Styler:
        """For a notebook, and for `results.save_latex`."""
        return dressed(self.text, self.placed)

    @property
    def markdown(self) -> str:
        """For GitHub, with title and note."""
        return f"**{self.title}**\n\n{markdown(self.text, self.placed)}\n\n{self.note}".rstrip()


def load(folder: str | Path) -> Results:
    """Read a campaign, or the copy of its two files.

    A line that is done but lacks a score that others of its dataset and resolution have was no number: it has failed.

    Args:
        folder: holds `campaign.json` and `scores.csv`.
    Raises: ValueError, naming the file, if they are missing or not those of a campaign.
    """
    record_file, scores_file = Path(folder) / RECORD, Path(folder) / SCORES
    for path in (record_file, scores_file):
        if not path.is_file():
            raise ValueError(f"{path} is missing: give the folder that `clippan table` made, or a copy of it")
    try:
        record = Record.model_validate_json(record_file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{record_file} is not a campaign's: {place}: {first['msg']}") from None
    try:
        scores = _read(scores_file, record)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{scores_file} is not a campaign's: {error}") from None
    return Results(record, scores)


def _read(path: Path, record: Record) -> pd.DataFrame:
    types = dict.fromkeys(KEYS, str) | {"seed": int} | dict.fromkeys(BETTER, float)
    scores = pd.read_csv(
        path, dtype=types, keep_default_na=False, na_values={metric: [""] for metric in BETTER}
    )
    if missing := [name for name in types if name not in scores]:
        raise ValueError(f"it lacks the columns {missing}")
    known = {"dataset": record.datasets, "seed": record.seeds, "judged": SHOWN, "status": STATUS}
    for column, choices in known.items():
        if unknown := set(scores[column]) - set(choices):
            raise ValueError(f"{column} {sorted(unknown)}, expected {list(choices)}")
    if scores.duplicated(["dataset", "row", "seed", "judged"]).any():
        raise ValueError("two lines have the same dataset, row, seed and judged")
    if unknown := set(scores["baseline"]) - set(scores["row"]) - {""}:
        raise ValueError(f"baselines {sorted(unknown)} are no rows")
    metrics, done = list(BETTER), scores["status"] == "done"
    scores.loc[~done, metrics] = np.nan
    expected = scores[metrics].notna().groupby([scores["dataset"], scores["judged"]]).transform("any")
    scores.loc[done & (scores[metrics].isna() & expected).any(axis=1), "status"] = "failed"
    scores.loc[scores["status"] != "done", metrics] = np.nan
    return scores


def all_tables(results: Results) -> list[Table]:
    """Scores and paired differences of each dataset at each resolution, then the order compared with the paper."""
    tables = []
    for part in results.parts:
        tables += [_score_table(results, part)] + ([_difference_table(part)] if part.pairs else [])
    return tables + _order_table(results)


def _score_table(results: Results, part: Part) -> Table:
    mean, done, theirs = part.mean, part.done, _theirs(results, part)
    text = as_text(mean, DIGITS, part.spread)
    for row in (row for row, count in done.items() if not count):
        status = part.lines.loc[part.lines["row"] == row, "status"]
        text.loc[row] = "failed" if (status == "failed").any() else "missing"
    placed, headers = places(mean, BETTER, DIGITS), _headers(part.metrics)
    if theirs is not None:
        text = pd.concat([text, as_text(theirs.reindex(part.rows))], axis=1)
        placed = pd.concat([placed, theirs.reindex(part.rows).map(lambda _: 0)], axis=1)
        groups = ["ours"] * len(headers) + ["paper"] * len(theirs.columns)
        headers = pd.MultiIndex.from_arrays([groups, [*headers, *_headers(theirs.columns)]])
    index = [part.counted(row, done[row]) for row in part.rows]
    text, placed = (table.set_axis(index).set_axis(headers, axis=1) for table in (text, placed))
    return Table(f"{part.dataset}_{part.judged}", part.title, text, placed)


def _headers(metrics: Iterable[str]) -> list[str]:
    return [f"{metric}{UNITS.get(metric, '')} {_ARROWS[BETTER[metric]]}" for metric in metrics]


def _theirs(results: Results, part: Part) -> pd.DataFrame | None:
    sensor = paper.comparable(part.dataset)
    return paper.printed(results.record.table, part.judged).get(sensor) if sensor else None


def _difference_table(part: Part) -> Table:
    lines = part.differences
    cells = [_difference_cell(**line) for line in lines.to_dict("records")]
    labels = [part.counted(label, len(each)) for label, each in part.pairs.items()]
    text = pd.DataFrame(
        np.reshape(cells, (len(labels), -1)),
        index=labels,
        columns=_headers(part.metrics),
        dtype=object,
    )
    intervals, clear = lines["half width"].notna().sum(), lines["verdict"].isin(["better", "worse"]).sum()
    note = (
        f"Row minus baseline of the same seed: mean ± half width of Student's 95 % interval. The words better and "
        f"worse stand where the interval excludes 0: {clear} of {intervals}. About one in twenty would if no row made "
        f"any difference; nothing is corrected for the number of comparisons."
        if intervals
        else "Row minus baseline of the same seed. One seed has no interval: these differences tell nothing apart."
    )
    placed = pd.DataFrame(0, text.index, text.columns)
    name, title = f"{part.dataset}_{part.judged}_differences", f"{part.title}, differences"
    return Table(name, title, text, placed, note)


def _difference_cell(metric: str, seeds: int, verdict: str, **line: Any) -> str:
    if not seeds:
        return "no seed of both"
    text = difference_text(line["mean"], line["half width"], DIGITS[metric])
    return f"{text} {verdict}" if verdict in ("better", "worse") else text


def _order_table(results: Results) -> list[Table]:
    found = order(results)
    if found.empty:
        return []
    metrics = [metric for metric in BETTER if metric in found]
    text = found[metrics].map(lambda rho: "-" if np.isnan(rho) else f"{rho:+.2f}").set_axis(metrics, axis=1)
    text.insert(0, "rows", found["rows"].map(str))
    text["by chance"] = found["by chance"].map("± {:.2f}".format)
    text.index = found["dataset"] + ", " + found["judged"] + " resolution, paper's " + found["paper"]
    note = (
        "Spearman's rank correlation of our means with the paper's over the rows that both have, of trained networks: "
        "+1 is the paper's order, -1 its reverse. Order only: it says nothing of sizes. By chance: standard deviation "
        "if the order were random."
    )
    placed = pd.DataFrame(0, text.index, text.columns)
    return [Table("order", "Is the order of the rows the paper's?", text, placed, note)]


def summary(results: Results) -> pd.DataFrame:
    """The numbers of the tables, one line each: mean, standard deviation, seeds done, the paper's number."""
    lines = []
    for part in results.parts:
        mean, spread, done, theirs = part.mean, part.spread, part.done, _theirs(results, part)
        printed = pd.DataFrame() if theirs is None else theirs
        printed = printed.reindex(index=part.rows, columns=part.metrics)
        lines += [
            {
                "dataset": part.dataset,
                "judged": part.judged,
                "row": row,
                "metric": metric,
                "mean": mean.at[row, metric],
                "standard deviation": spread.at[row, metric],
                "seeds": done[row],
                "paper": printed.at[row, metric],
            }
            for row in part.rows
            for metric in part.metrics
        ]
    return pd.DataFrame(lines)


def differences(results: Results) -> pd.DataFrame:
    """The paired differences, one line each: mean, half width, seeds paired, verdict (of `VERDICTS`)."""
    parts = [part for part in results.parts if part.pairs]
    tables = {(part.dataset, part.judged): part.differences for part in parts}
    return (
        pd.concat(tables, names=["dataset", "judged"]).reset_index(level=[0, 1]) if tables else pd.DataFrame()
    )


def order(results: Results) -> pd.DataFrame:
    """Spearman's rank correlation with the paper, over the trained networks that both have.

    Returns: one line per dataset, resolution and sensor of the paper (column paper) with at least three rows in
        common: their number, the standard deviation of the correlation under a random order, 1 / sqrt(rows - 1), and
        the correlation by metric, NaN where all rows are equal.
    """
    lines = []
    for part in results.parts:
        for sensor, theirs in paper.printed(results.record.table, part.judged).items():
            mean = part.mean.dropna()
            common = [row for row in theirs.index if row in mean.index and row not in paper.CLASSICAL]
            if len(common) < _FEWEST:
                continue
            place = {"dataset": part.dataset, "judged": part.judged, "paper": sensor, "rows": len(common)}
            ranks = mean.loc[common, theirs.columns].rank(), theirs.loc[common].rank()
            lines.append(
                place | {"by chance": (len(common) - 1) ** -0.5} | ranks[0].corrwith(ranks[1]).to_dict()
            )
    return pd.DataFrame(lines)


def beside_the_paper(results: Results) -> str:
    """Why the paper's numbers stand beside ours, or do not."""
    by_sensor: dict[str | None, list[str]] = {}
    for dataset, facts in results.record.datasets.items():
        by_sensor.setdefault(paper.comparable(dataset), []).append(facts.title)
    others = by_sensor.pop(None, [])
    sentences = [
        f"The paper names no collection: {', '.join(titles)} is taken for its {sensor} scenes, and its numbers stand "
        "beside ours where it prints them."
        for sensor, titles in by_sensor.items()
    ]
    if others:
        sentences.append(
            f"The paper's scenes are others than those of {'; '.join(others)}: its numbers are not comparable and not "
            "shown, only the order of rows is compared."
        )
    return " ".join(sentences)


def reading(results: Results) -> str:
    """How to read the tables of scores."""
    spread = (
        f"Mean ± standard deviation over {len(results.record.seeds)} seeds; without ±, the value of one seed or the "
        "same for every seed."
        if len(results.record.seeds) > 1
        else "One seed: the spread is not known, and so not whether the order of the rows means anything."
    )
    return f"{spread} {beside_the_paper(results)}"


def as_markdown(results: Results) -> str:
    """All of it for GitHub: how it was made, how to read it, the tables, what is not done."""
    texts = [
        results.record.origin,
        f"{reading(results)} Best **bold**, second best _italic_, equal as printed.",
    ]
    texts += [table.markdown for table in all_tables(results)]
    texts += [
        f"Not done: {line.row}, seed {line.seed}, {line.dataset} at {line.judged} resolution: {line.status}."
        for line in results.not_done.itertuples()
    ]
    return "\n\n".join(texts)


def save(results: Results, folder: str | Path) -> None:
    """Write tables/: summary.csv, differences.csv, order.csv, results.md, and each table for LaTeX with booktabs."""
    place = Path(folder) / "tables"
    place.mkdir(parents=True, exist_ok=True)
    for name, numbers in {"summary": summary, "differences": differences, "order": order}.items():
        write_text(place / f"{name}.csv", numbers(results).to_csv(index=False))
    write_text(place / "results.md", as_markdown(results) + "\n")
    for table in all_tables(results):
        save_latex(folder, table.name, table.styled)
