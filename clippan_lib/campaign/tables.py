"""From a campaign's two files to its tables: mean and spread, paired differences, the paper's numbers and order.

Every table is a `Table` of text, which a notebook shows, LaTeX prints and GitHub renders. The numbers behind it are in
`summary`, `differences` and `order`, one line per number.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from clippan_lib.campaign import paper
from clippan_lib.campaign.record import PLACES, Contest, Results
from clippan_lib.evaluation.intervals import difference_text
from clippan_lib.figures.tables import DIGITS, as_text, dressed, header, markdown, places
from clippan_lib.figures.text import plain
from clippan_lib.files import write_text
from clippan_lib.metrics import BETTER
from clippan_lib.runs.results import save_latex

# Fewer rows than this have no order to speak of
_FEWEST = 3


@dataclass(frozen=True)
class Table:
    """A table ready to be shown.

    Args:
        name: name of its file.
        title: title of dataset and resolution.
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
    def heading(self) -> str:
        """The title, as a line of markdown."""
        return f"**{plain(self.title)}**"

    @property
    def markdown(self) -> str:
        """For GitHub, with title and note."""
        return f"{self.heading}\n\n{markdown(self.text, self.placed)}\n\n{self.note}".rstrip()


def all_tables(results: Results) -> list[Table]:
    """Scores and paired differences of each dataset at each resolution, then the order compared with the paper."""
    tables = []
    for contest in results.contests:
        tables += [_score_table(results, contest)] + ([_difference_table(contest)] if contest.pairs else [])
    return tables + _order_table(results)


def _score_table(results: Results, contest: Contest) -> Table:
    mean, done, theirs = contest.mean, contest.done, _theirs(results, contest)
    text = as_text(mean, DIGITS, contest.spread)
    for row in (row for row, count in done.items() if not count):
        status = contest.lines.loc[contest.lines["row"] == row, "status"]
        text.loc[row] = "failed" if (status == "failed").any() else "missing"
    placed, headers = places(mean, BETTER, DIGITS), [*map(header, contest.metrics)]
    if theirs is not None:
        text = pd.concat([text, as_text(theirs.reindex(contest.rows))], axis=1)
        placed = pd.concat([placed, theirs.reindex(contest.rows).map(lambda _: 0)], axis=1)
        groups = ["ours"] * len(headers) + ["paper"] * len(theirs.columns)
        headers = pd.MultiIndex.from_arrays([groups, [*headers, *map(header, theirs.columns)]])
    index = [contest.counted(row, done[row]) for row in contest.rows]
    text, placed = (table.set_axis(index).set_axis(headers, axis=1) for table in (text, placed))
    return Table(f"{contest.dataset}_{contest.judged}", contest.title, text, placed)


def _theirs(results: Results, contest: Contest) -> pd.DataFrame | None:
    sensor = paper.comparable(contest.dataset)
    return paper.printed(results.record.table, contest.judged).get(sensor) if sensor else None


def _difference_table(contest: Contest) -> Table:
    lines = contest.differences
    cells = [_difference_cell(**line) for line in lines.to_dict("records")]
    labels = [contest.counted(label, len(each)) for label, each in contest.pairs.items()]
    text = pd.DataFrame(
        np.reshape(cells, (len(labels), -1)),
        index=labels,
        columns=[*map(header, contest.metrics)],
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
    name, title = f"{contest.dataset}_{contest.judged}_differences", f"{contest.title}, differences"
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
    text.index = found["dataset"] + ", " + found["judged"].map(PLACES) + ", paper's " + found["paper"]
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
    for contest in results.contests:
        mean, spread, done, theirs = contest.mean, contest.spread, contest.done, _theirs(results, contest)
        printed = pd.DataFrame() if theirs is None else theirs
        printed = printed.reindex(index=contest.rows, columns=contest.metrics)
        lines += [
            {
                "dataset": contest.dataset,
                "judged": contest.judged,
                "row": row,
                "metric": metric,
                "mean": mean.at[row, metric],
                "standard deviation": spread.at[row, metric],
                "seeds": done[row],
                "paper": printed.at[row, metric],
            }
            for row in contest.rows
            for metric in contest.metrics
        ]
    return pd.DataFrame(lines)


def differences(results: Results) -> pd.DataFrame:
    """The paired differences, one line each: mean, half width, seeds paired, verdict (of `VERDICTS`)."""
    contests = [contest for contest in results.contests if contest.pairs]
    tables = {(contest.dataset, contest.judged): contest.differences for contest in contests}
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
    for contest in results.contests:
        for sensor, theirs in paper.printed(results.record.table, contest.judged).items():
            mean = contest.mean.dropna()
            common = [row for row in theirs.index if row in mean.index and row not in paper.CLASSICAL]
            if len(common) < _FEWEST:
                continue
            place = {
                "dataset": contest.dataset,
                "judged": contest.judged,
                "paper": sensor,
                "rows": len(common),
            }
            ranks = mean.loc[common, theirs.columns].rank(), theirs.loc[common].rank()
            lines.append(
                place | {"by chance": (len(common) - 1) ** -0.5} | ranks[0].corrwith(ranks[1]).to_dict()
            )
    return pd.DataFrame(lines)


def beside_the_paper(results: Results) -> str:
    """Why the paper's numbers stand beside ours, or do not, as markdown."""
    by_sensor: dict[str | None, list[str]] = {}
    for dataset, facts in results.record.datasets.items():
        by_sensor.setdefault(paper.comparable(dataset), []).append(plain(facts.title))
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
    """How to read the tables of scores, as markdown."""
    spread = (
        f"Mean ± standard deviation over {len(results.record.seeds)} seeds; without ±, the value of one seed or the "
        "same for every seed."
        if len(results.record.seeds) > 1
        else "One seed: the spread is not known, and so not whether the order of the rows means anything."
    )
    lowered = (
        "One scale down, networks see the degraded LRMS and PAN alone, their pseudo-supervisor is trained one scale "
        "lower still, and the LRMS of before is the truth: it leads, the indices that need none stand after it. "
        if "lowered" in set(results.scores["judged"])
        else ""
    )
    return f"{spread} {lowered}{beside_the_paper(results)}"


def as_markdown(results: Results) -> str:
    """All of it for GitHub: how it was made, how to read it, the tables, what is not done."""
    texts = [
        results.record.origin,
        f"{reading(results)} Best **bold**, second best _italic_, equal as printed.",
    ]
    texts += [table.markdown for table in all_tables(results)]
    texts += [
        f"Not done: {plain(line.row)}, seed {line.seed}, {line.dataset}, {PLACES[line.judged]}: {line.status}."
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
