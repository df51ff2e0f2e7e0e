"""What a run found, in a few numbers and one sentence: its own network beside the best classical method."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clippan_lib.evaluation.intervals import confidence_interval
from clippan_lib.figures.page import KeyNumber
from clippan_lib.figures.prose import difference, listed
from clippan_lib.figures.tables import DIGITS, unit_of
from clippan_lib.fusion import CLASSICAL
from clippan_lib.metrics import BETTER
from clippan_lib.runs.results import GATES

_SCORES = "Scores"
_MOST = 5
_DECIDES = {"truth": ("MPSNR", "SAM", "Q2n", "ERGAS"), "no truth": ("R_Q2n", "RQNR", "HQNR", "D_rho")}
_WHERE = {
    ("truth", "full"): "at full resolution, against the truth",
    ("truth", "reduced"): "at reduced resolution, where the original LRMS is the truth",
    ("no truth", "full"): "at full resolution, without a truth",
}


@dataclass(frozen=True)
class Headline:
    """The network that a run was made for, and the best of the classical methods on the same scenes.

    Args:
        ours: name of the network with the language term.
        rival: title of the classical method with the best mean score.
        resolution: of the scenes, "full" or "reduced".
        sentence: which of the two is better, as far as the scores allow to say.
        numbers: five at most.
    """

    ours: str
    rival: str
    resolution: str
    sentence: str
    numbers: tuple[KeyNumber, ...]


def headline(rows: pd.DataFrame, network: str, links: Mapping[str, str] | None = None) -> Headline | None:
    """Read a run's numbers.

    Args:
        rows: from `results.load`.
        network: of the run's settings.
        links: metric to the address of its explanation.
    Returns: None where no notebook recorded scores of the network and of a classical method on the same scenes.
    """
    scores = rows[(rows["table"] == _SCORES) & rows["scene"].notna() & rows["value"].notna()]
    ours, links = f"{network}-C", links or {}
    for (truth, resolution), where in _WHERE.items():
        first, *others = _DECIDES[truth]
        at = scores[scores["resolution"] == resolution]
        judged = _per_scene(at, ours)
        classical = [row.title for row in CLASSICAL.values() if row.title in judged.index.unique("method")]
        if first not in judged or not classical:
            continue
        means = judged.groupby("method", sort=False).mean()
        rival = str(means.loc[classical, first].idxmax())
        gain = (judged.loc[ours, first] - judged.loc[rival, first]).dropna().to_numpy()
        if not gain.size:
            continue
        scored = [_number(means, name, ours, rival, links) for name in (first, *others) if name in means]
        more = [*_of_language(at, first, network, links), *_of_gates(rows)]
        said = _sentence(ours, rival, len(classical), first, gain, where)
        said += _but(means, others, ours, rival, float(gain.mean()))
        return Headline(ours, rival, resolution, said, tuple(scored[:3] + more + scored[3:])[:_MOST])
    return None


def _per_scene(scores: pd.DataFrame, ours: str) -> pd.DataFrame:
    """Means over seeds by method and scene, on the scenes of the first notebook that judged ours."""
    mine = scores[scores["method"] == ours]
    mine = mine[mine["notebook"].isin(mine["notebook"].iloc[:1])]
    others = scores[(scores["method"] != ours) & scores["scene"].isin(mine["scene"])]
    # A method that two notebooks judged has the same scores in both
    others = others.drop_duplicates(["method", "seed", "scene", "metric"])
    table = pd.concat([mine, others]).pivot_table(
        index=["method", "scene"], columns="metric", values="value", aggfunc="mean", sort=False
    )
    whole = table.groupby("method").size() == mine["scene"].nunique()
    return table[table.index.get_level_values("method").isin(whole.index[whole])]


def _sentence(ours: str, rival: str, count: int, metric: str, gain: np.ndarray, where: str) -> str:
    mean, half = confidence_interval(gain)
    verdict = "may be as good as"
    if mean - half > 0:
        verdict = "is better than"
    elif mean + half < 0:
        verdict = "is worse than"
    scenes = (
        f"95 % interval over {gain.size} test scenes"
        if gain.size > 1
        else "on a single test scene, which allows no interval"
    )
    others = f"the best of {count} classical methods" if count > 1 else "the only classical method judged"
    told = difference(mean, half, unit_of(metric) or "", DIGITS[metric])
    return f"{ours} {verdict} {rival}, {others}, in {metric}: the difference is {told} ({scenes}, {where})"


def _but(means: pd.DataFrame, metrics: Sequence[str], ours: str, rival: str, gain: float) -> str:
    """The end of the sentence: in which other metrics the one that is behind has the better mean."""
    ahead, behind = (ours, rival) if gain > 0 else (rival, ours)
    sign = {"high": 1, "low": -1}
    found = [m for m in metrics if m in means and sign[BETTER[m]] * (means[m][behind] - means[m][ahead]) > 0]
    return f"; {behind} is better in {listed(found)}." if found else "."


def _number(means: pd.DataFrame, metric: str, ours: str, rival: str, links: Mapping[str, str]) -> KeyNumber:
    mine, theirs = (_valued(means.loc[name, metric], metric) for name in (ours, rival))
    better = "higher is better" if BETTER[metric] == "high" else "lower is better"
    return KeyNumber(f"{metric} of {ours}", mine, better, f"{rival}: {theirs}", links.get(metric, ""))


def _valued(value: float, metric: str) -> str:
    unit = unit_of(metric)
    return f"{value:.{DIGITS[metric]}f}{unit if unit == '°' else f' {unit}' if unit else ''}"


def _of_language(
    scores: pd.DataFrame, metric: str, network: str, links: Mapping[str, str]
) -> Iterator[KeyNumber]:
    """What the language term changes, paired over seeds."""
    pair = scores[(scores["metric"] == metric) & scores["method"].isin([network, f"{network}-C"])]
    pair = pair[pair["notebook"].isin(pair["notebook"].iloc[:1])]
    table = pair.pivot_table(index="seed", columns="method", values="value", aggfunc="mean").dropna()
    if table.shape[1] < 2 or table.empty:
        return
    gain = (table[f"{network}-C"] - table[network]).to_numpy()
    mean, half = confidence_interval(gain)
    told = difference(mean, half, unit_of(metric) or "", DIGITS[metric])
    value, _, judged = told.partition(", ")
    seeds = f"{gain.size} seeds" if gain.size > 1 else "one seed"
    note = "; ".join(filter(None, (judged, seeds)))
    yield KeyNumber(
        f"{metric}, change by language", value, "above 0 language helps", note, links.get(metric, "")
    )


def _of_gates(rows: pd.DataFrame) -> Iterator[KeyNumber]:
    passed = rows[(rows["table"] == GATES) & (rows["metric"] == "passed")]["value"]
    if len(passed):
        yield KeyNumber(
            "Gates the supervisor passes", f"{passed.sum():.0f} of {len(passed)}", "more is better"
        )


def warning(preset: str, iterations: int) -> str:
    """Why the numbers of a run mean nothing, "" if they mean something.

    Args:
        preset: of the run.
        iterations: of Stage II.
    """
    if preset != "smoke":
        return ""
    return (
        f"Smoke run: the networks were trained for {iterations} iterations, only to see that everything runs. "
        "Its numbers and pictures mean nothing."
    )
