"""Sentences of results, made from the results: what a notebook says of its tables cannot contradict them."""

from collections.abc import Mapping, Sequence

import pandas as pd
from IPython.display import Markdown

from clippan_lib.evaluation.intervals import difference_text
from clippan_lib.figures.text import without_html


def said(*sentences: str) -> Markdown:
    """A paragraph of a notebook; what is empty is left out, and HTML stays text."""
    return Markdown(without_html(" ".join(filter(None, sentences))))


def change(before: float, after: float, digits: int = 3) -> str:
    """ "rises from 0.1 to 0.3", "falls from ...", or "stays at 0.1", as far as the printed digits tell.

    Args:
        before, after: two numbers of one kind.
        digits: behind the point.
    """
    first, last = f"{before:.{digits}f}", f"{after:.{digits}f}"
    if first == last:
        return f"stays at {first}"
    return f"{'rises' if after > before else 'falls'} from {first} to {last}"


def difference(mean: float, half: float, unit: str = "", digits: int = 3) -> str:
    """ "+0.100 ± 0.050 dB, surely above 0", "..., surely below 0" or "..., which may be chance".

    Args:
        mean: of differences.
        half: half of their 95 % interval; NaN, of a single one, allows no judgement.
        unit: behind the numbers.
        digits: behind the point.
    """
    number = f"{difference_text(mean, half, digits)}{' ' * bool(unit)}{unit}"
    if mean - half > 0:
        return f"{number}, surely above 0"
    if mean + half < 0:
        return f"{number}, surely below 0"
    return f"{number}, which may be chance"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"; "none" of nothing."""
    *others, last = names or ["none"]
    return f"{', '.join(others)} and {last}" if others else last


def best_of(scores: pd.DataFrame, better: Mapping[str, str]) -> dict[str, str]:
    """The best row of each column; of equal ones the first.

    Args:
        scores: one row per method, one column per metric; columns without any number are left out.
        better: metric to "high" or "low".
    """
    known = scores.dropna(axis=1, how="all")
    return {
        name: str(known[name].idxmax() if better[name] == "high" else known[name].idxmin()) for name in known
    }
