"""Which index ranks fused images as the truth does?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

CLEAR = 0.1  # dB of MPSNR: images closer than this are not told apart


def oriented(scores: pd.DataFrame, better: Mapping[str, str]) -> pd.DataFrame:
    """The scores with the sign that makes higher better.

    Args:
        scores: one row per image, one column per metric.
        better: "high" or "low" by metric, as `metrics.BETTER`.
    Raises: KeyError on a metric that `better` does not know.
    """
    return scores * [1 if better[name] == "high" else -1 for name in scores.columns]


def ranking(
    scores: pd.DataFrame, truth: str, metrics: Sequence[str], better: Mapping[str, str], clear: float = CLEAR
) -> pd.DataFrame:
    """How each metric orders the images of one scene, compared with how a score against the truth orders them.

    Args:
        scores: one row per fused image of one scene, one column per metric.
        truth: the column that has seen the truth.
        metrics: the columns that are compared with it.
        better: as in `oriented`.
        clear: pairs of images whose `truth` differs by less are left out of the agreement.
    Returns: one row per metric; `spearman` is the rank correlation with the truth, `agreement` the share of pairs that
        are ordered as the truth has them (ties count half; .5 is chance), `loss` what the metric's best image lacks
        against the truth's best, in the truth's units.
    Raises: ValueError on fewer than two images, or on values that are not finite.
    """
    if len(scores) < 2 or not np.isfinite(scores[[truth, *metrics]].to_numpy()).all():
        raise ValueError(
            f"{len(scores)} images, or a score that is not finite: give finite scores of two or more"
        )
    signed = oriented(scores[[truth, *metrics]], better)
    true = signed[truth].to_numpy()
    first, second = np.triu_indices(len(true), 1)
    apart = np.abs(true[first] - true[second]) >= clear
    expected = np.sign(true[first] - true[second])[apart]
    rows = {}
    for name in metrics:
        seen = signed[name].to_numpy()
        found = np.sign(seen[first] - seen[second])[apart]
        rows[name] = {
            "spearman": signed[truth].corr(signed[name], method="spearman"),
            "agreement": float(np.mean((1 + expected * found) / 2)) if apart.any() else np.nan,
            "loss": float(true.max() - true[seen.argmax()]),
        }
    return pd.DataFrame.from_dict(rows, orient="index")
