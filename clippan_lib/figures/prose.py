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


def in_order(values: pd.Series, better: str, digits: int = 3, unit: str = "") -> str:
    """ "*a* 0.900 dB, *b* and *c* 0.800 dB": the best first, equals as printed together; NaN is left out.

    Args:
        values: one number per name.
        better: "high" or "low".
        digits: behind the point.
        unit: behind each number.
    """
    return ", ".join(_places(values, better, digits, unit))


def best_of(values: pd.Series, better: str, digits: int = 3, unit: str = "") -> str:
    """ "*a* 0.900 dB", the first place of `in_order`; "none" where all are NaN. Args: as of `in_order`."""
    return next(iter(_places(values, better, digits, unit)), "none")


def best_of_groups(
    values: pd.Series, groups: Mapping[str, Sequence[str]], better: str, digits: int = 3, unit: str = ""
) -> str:
    """ "classical methods: *a* 0.900 dB; networks: *b* 0.800 dB": the best of each group, the best group first.

    Args:
        values: one number per name.
        groups: title to names; a group without a number is left out.
        better: "high" or "low".
        digits, unit: as of `in_order`.
    """
    parts = {title: values[list(names)].dropna() for title, names in groups.items()}
    best = pd.Series({title: _best_first(part, better).iloc[0] for title, part in parts.items() if len(part)})
    order = _best_first(best, better).index
    return "; ".join(f"{title}: {best_of(parts[title], better, digits, unit)}" for title in order)


def _best_first(values: pd.Series, better: str) -> pd.Series:
    return values.dropna().sort_values(ascending=better == "low", kind="stable")


def _places(values: pd.Series, better: str, digits: int, unit: str) -> list[str]:
    printed = _best_first(values, better).map(f"{{:.{digits}f}}".format).replace("inf", "∞")
    together = printed.groupby(printed, sort=False).groups
    return [
        f"{listed([f'*{name}*' for name in names])} {number}{' ' * bool(unit)}{unit}"
        for number, names in together.items()
    ]
