"""What the scores of a contest say: who is best, by how much, and how far that can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clippan_lib.errors import DataError
from clippan_lib.evaluation.intervals import confidence_interval
from clippan_lib.fusion import is_classical, title_of

DECIDES = "MPSNR"


class Place(NamedTuple):
    """A method with its consistency ("none", "+3", "++1")."""

    method: str
    consistency: str

    @property
    def name(self) -> str:
        """As `--method` takes a classical one: "bt_h+3"."""
        return self.method + self.consistency.replace("none", "")

    @property
    def title(self) -> str:
        """As tables call it."""
        if is_classical(self.method):
            return title_of(self.name)
        steps = self.consistency.replace("none", "").lstrip("+")
        return f"{self.method} + {steps} steps" if steps else self.method


@dataclass(frozen=True)
class Lead:
    """How far the best is before another, one scale down.

    Args:
        other: who is compared.
        mean, half: MPSNR of the best minus the other's, dB: mean over parts of the areas and half width of Student's
            95 % interval; the half width is NaN for a single part.
        parts: how many.
    """

    other: Place
    mean: float
    half: float
    parts: int

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.mean > self.half


@dataclass(frozen=True)
class Verdict:
    """Who is best on a scene, by the truth one scale down.

    Args:
        best: first in MPSNR.
        score: its MPSNR, dB.
        leads: before the best classical method (of those as they are and those with consistency), or, if that is the
            best itself, before the best of all others; None if nobody else took part.
    """

    best: Place
    score: float
    leads: Lead | None

    @property
    def sentence(self) -> str:
        """The result in one sentence, with the interval and what it means."""
        first = f"By the truth one scale down {self.best.title} is best on this scene: {self.score:.2f} dB (MPSNR)"
        if self.leads is None:
            return f"{first}. Nothing else was compared."
        lead, kind = self.leads, "the best classical method"
        if is_classical(self.best.method):
            kind = "the next best method"
        ahead = f"{lead.mean:.2f}" + ("" if np.isnan(lead.half) else f" ± {lead.half:.2f}")
        meaning = "" if lead.clear or np.isnan(lead.half) else ", so the two cannot be told apart"
        return (
            f"{first}. {kind[0].upper()}{kind[1:]}, {lead.other.title}, has {ahead} dB less (95 % interval over "
            f"{lead.parts} parts of the scene){meaning}."
        )


def scores_of(rows: pd.DataFrame, setting: str) -> pd.DataFrame:
    """One row per method and consistency, one column per metric, in the order of the contest.

    Args:
        rows: from `run_contest`.
        setting: one of its settings.
    """
    part = rows[rows.setting == setting]
    return part.groupby(["method", "consistency", "metric"], sort=False).value.first().unstack(sort=False)


def verdict(rows: pd.DataFrame) -> Verdict:
    """Who is best in the setting "reduced".

    Args:
        rows: from `run_contest`.
    Raises: DataError without a score in that setting.
    """
    if rows.empty or not (rows.setting == "reduced").any():
        raise DataError("no method has a score one scale down, so none is the best")
    scores = scores_of(rows, "reduced")[DECIDES].sort_values(ascending=False, kind="stable")
    places = [Place(*key) for key in scores.index]
    best, others = places[0], places[1:]
    if not is_classical(best.method):
        others = [place for place in others if is_classical(place.method)] or others
    lead = _lead(rows, best, others[0]) if others else None
    return Verdict(best, float(scores.iloc[0]), lead)


def leads(rows: pd.DataFrame, best: Place) -> dict[Place, Lead]:
    """How far the best is before each of the others."""
    keys = scores_of(rows, "reduced").index
    return {place: _lead(rows, best, place) for place in (Place(*key) for key in keys) if place != best}


def _lead(rows: pd.DataFrame, best: Place, other: Place) -> Lead:
    first, second = (np.array(_blocks(rows, place)) for place in (best, other))
    mean, half = confidence_interval(first - second)
    return Lead(other, mean, half, len(first))


def _blocks(rows: pd.DataFrame, place: Place) -> list[float]:
    chosen = (
        (rows.setting == "reduced")
        & (rows.metric == DECIDES)
        & (rows.method == place.method)
        & (rows.consistency == place.consistency)
    )
    return rows[chosen].blocks.iloc[0]


def best_of_each(scores: pd.DataFrame) -> pd.DataFrame:
    """Of each method the consistency with the highest MPSNR, the best method first.

    Args:
        scores: from `scores_of`, of a setting with a truth.
    """
    ranked = scores.sort_values(DECIDES, ascending=False, kind="stable")
    return ranked[~ranked.index.get_level_values("method").duplicated()]


def trust(known: Mapping[str, Any]) -> str:
    """How often the winner one scale down won at full resolution, where both were known, in a sentence.

    Args:
        known: content of assets/certificate.json, which benchmarks/indices.py measures: scenes, wins, mean and worst
            loss (dB), and the same of the best index without a truth.
    """
    return (
        f"On {known['scenes']} synthetic scenes, where a truth is known at full resolution, too, the winner one scale "
        f"down was the best there on {known['wins']}, and had {known['mean']:.2f} dB less than the best on average "
        f"({known['worst']:.2f} dB at worst). Choosing by an index without a truth lost {known['index_mean']:.2f} dB "
        f"on average with the best of them ({known['index']}), and {known['hqnr_mean']:.2f} dB with HQNR."
    )
