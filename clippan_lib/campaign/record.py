"""A campaign as its two files say: how it was made (`campaign.json`) and its scores (`scores.csv`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clippan_lib.evaluation.intervals import confidence_interval
from clippan_lib.figures.text import code, plain
from clippan_lib.metrics import BETTER, TABLES

RECORD, SCORES = "campaign.json", "scores.csv"
KEYS = ("dataset", "row", "baseline", "seed", "judged", "status", "run")
STATUS = ("done", "failed", "missing")
# Of a paired difference: its interval lies on one side of 0, contains 0, or does not exist
VERDICTS = ("better", "worse", "open", "no interval")
REFERENCE = ("MPSNR", "ERGAS", "SAM", "Q2n")
INDICES = ("D_lambda", "D_s", "QNR", "HQNR")
# What is always shown of a way of judging; at full resolution scores against a truth follow where there is one
SHOWN = {"reduced": REFERENCE, "full": INDICES, "lowered": (*REFERENCE, *INDICES)}
# How it is called
PLACES = {"reduced": "reduced resolution", "full": "full resolution", "lowered": "one scale down"}


# Of a manifest, and so of files
_Name = Annotated[str, Field(pattern="^[a-z0-9_]+$")]


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
    datasets: Annotated[dict[_Name, _Facts], Field(min_length=1)]

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
        return f"{code(self.command)} ({plain('; '.join(facts))})"

    @property
    def heading(self) -> str:
        """Number and title of the table, and its origin, as one line of markdown."""
        return f"**Table {self.table}: {plain(self.title)}.** {self.origin}"


@dataclass(frozen=True)
class Contest:
    """The rows of a table on one dataset, judged in one way.

    Args:
        dataset: the manifest's name.
        title: title of dataset and way of judging.
        judged: "full" or "reduced" resolution of the test scenes; or "lowered": one scale down by the truth, with the
            indices that need none beside it.
        lines: lines of `scores.csv`; a line that is not done has no scores.
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
        scores: one line per dataset, row, seed and way of judging.
    """

    record: Record
    scores: pd.DataFrame

    @property
    def contests(self) -> list[Contest]:
        """One per dataset and way of judging, in the order of the lines."""
        grouped = self.scores.groupby(["dataset", "judged"], sort=False)
        return [
            Contest(
                dataset,
                f"{self.record.datasets[dataset].title}: {PLACES[judged]}",
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
    types = dict.fromkeys(KEYS, str) | {"seed": int} | dict.fromkeys(TABLES, float)
    scores = pd.read_csv(
        path, dtype=types, keep_default_na=False, na_values={metric: [""] for metric in TABLES}
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
    metrics, done = list(TABLES), scores["status"] == "done"
    scores.loc[~done, metrics] = np.nan
    expected = scores[metrics].notna().groupby([scores["dataset"], scores["judged"]]).transform("any")
    scores.loc[done & (scores[metrics].isna() & expected).any(axis=1), "status"] = "failed"
    scores.loc[scores["status"] != "done", metrics] = np.nan
    return scores
