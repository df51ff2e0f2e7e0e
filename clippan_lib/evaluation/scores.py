"""Fuse test scenes with every method, judge the results, and compare variants seed by seed."""

import math
import time
import warnings
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from clippan_lib.data import Batch, Dataset, Scene
from clippan_lib.data.flat import flat
from clippan_lib.fusion import Method, get_method, title_of
from clippan_lib.metrics import TABLES, WITH_TRUTH, WITHOUT_TRUTH, Judge, reduced_scores

# An interpolation, and one method of each family: what every table has.
BASELINES = ("exp", "gsa", "bdsd_pc", "mtf_glp_hpm_r")
# What every table of scores says of its borders
CONVENTION = "Interpolation repeats border pixels in all methods and scores; nothing is cut."
# Ends the name of a metric where it is a difference of two methods' scores
DIFFERENCE = " difference"


def classical_methods(dataset: Dataset, names: Sequence[str] = BASELINES) -> dict[str, Method]:
    """Classical methods by the names that papers give them, bound to the dataset's sensor.

    Args:
        dataset: says sensor and ratio.
        names: names of classical methods, as `fusion.find_method` takes them.
    Raises: ValueError on an unknown name.
    """
    methods = {name: get_method(name, dataset.sensor, dataset.ratio) for name in names}
    return {title_of(name): method for name, method in methods.items()}


@torch.no_grad()
def fuse(method: Method, batch: Batch) -> Tensor:
    """The fused image, clipped to [0, 1]; a network is put into eval mode."""
    if isinstance(method, torch.nn.Module):
        method.eval()
    return method(batch.lrms, batch.pan).clamp(0, 1)


class Scorer:
    """All scores that a scene allows, of any number of fused images; what does not depend on them is computed once.

    Args:
        batch: the scene's images, one of each.
        scene: says sensor, ratio, resolution and the largest digital number.

    `fault` says why there are no scores, see `data.flat.flat`; "" if there are.
    """

    def __init__(self, batch: Batch, scene: Scene) -> None:
        self._scene = scene
        (self.fault,) = flat(batch, scene.sensor.bands)
        self._truth = None if batch.gt is None else batch.gt.double()
        self._judge = None
        if scene.resolution == "full" and not self.fault:
            lrms, pan = batch.lrms.double(), batch.pan.double()
            self._judge = Judge(lrms, pan, scene.sensor, scene.ratio, scene.dn_max)

    def __call__(self, hrms: Tensor) -> dict[str, float]:
        """Against the truth where it is known, without it at full resolution.

        Args:
            hrms: (1, c, H, W), [0, 1].
        Returns: name to value, of those in `metrics.TABLES`; conventions of the public toolbox (see `metrics`), but
            border pixels repeated instead of opposite borders joined; nothing is cut. All are NaN where there is a
            `fault`.
        """
        if self.fault:
            names = WITH_TRUTH * (self._truth is not None) + WITHOUT_TRUTH * (
                self._scene.resolution == "full"
            )
            return dict.fromkeys(names, math.nan)
        hrms = hrms.double()
        scores: dict[str, Tensor] = {}
        if self._truth is not None:
            scores |= reduced_scores(hrms, self._truth, self._scene.ratio, self._scene.dn_max)
        if self._judge is not None:
            scores |= self._judge.scores(hrms, TABLES)
        return {name: scores[name].item() for name in TABLES if name in scores}


def score(hrms: Tensor, batch: Batch, scene: Scene) -> dict[str, float]:
    """The scores of one image; of several of one scene `Scorer` has them sooner.

    Args:
        hrms: (1, c, H, W), [0, 1].
        batch, scene: as in `Scorer`.
    Returns: what `Scorer` gives.
    """
    return Scorer(batch, scene)(hrms)


@torch.no_grad()
def speed(method: Method, batch: Batch, repeats: int = 3) -> float:
    """Megapixels of PAN that a method fuses in a second, on the device of the batch: the best of `repeats`.

    Args:
        method: a fusion method; a network moves to the batch's device.
        batch: images of one size.
        repeats: runs that are timed, after one that is not.
    """
    if isinstance(method, torch.nn.Module):
        method.to(batch.pan.device).eval()
    times = []
    for _ in range(repeats + 1):
        _finish(batch.pan.device)
        start = time.perf_counter()
        method(batch.lrms, batch.pan)
        _finish(batch.pan.device)
        times.append(time.perf_counter() - start)
    return batch.pan.numel() / 1e6 / min(times[1:])


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def evaluate(
    methods: Mapping[str, Method | Sequence[Method]],
    scenes: Sequence[Scene],
    device: torch.device,
    first_seed: int = 0,
) -> pd.DataFrame:
    """One row per method, seed and scene.

    Args:
        methods: name to a fusion method, or to several that were trained with one seed after the other.
        scenes: test scenes, of one resolution or of both.
        device: where the methods run.
        first_seed: first seed of each method that is given as several.
    Returns: columns method, seed (none for a single method), scene, resolution, then one per metric; NaN where a
        scene of its resolution has no such score, and on a scene that cannot be scored, which a warning names.
    Raises: ValueError without scenes.
    """
    if not scenes:
        raise ValueError("no test scene to evaluate on: the manifest's test split is empty")
    rows = []
    for scene in scenes:
        batch = scene.read().to(device)
        scorer = Scorer(batch, scene)
        if scorer.fault:
            warnings.warn(f"{scene.name} has no scores: {scorer.fault}", stacklevel=2)
        for name, given in methods.items():
            seeded = dict(enumerate(given, first_seed)) if isinstance(given, Sequence) else {None: given}
            for seed, method in seeded.items():
                about = {"method": name, "seed": seed, "scene": scene.name, "resolution": scene.resolution}
                rows.append(about | scorer(fuse(method, batch)))
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def summary(scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean over scenes, then mean and standard deviation over seeds.

    Args:
        scores: from `evaluate`, of one resolution.
    Returns: two tables, method by metric; the second is NaN for a method with a single seed.
    Raises: ValueError on two resolutions.
    """
    seeds = _per_seed(scores)
    grouped = seeds.groupby("method", sort=False)
    return grouped.mean(), grouped.std()


def paired(scores: pd.DataFrame, variant: str, baseline: str) -> pd.DataFrame:
    """Per seed, the variant's mean scores minus the baseline's of the same seed.

    Args:
        scores: from `evaluate`, of one resolution.
        variant, baseline: methods with the same seeds.
    Returns: one row per seed, one column per metric.
    Raises: ValueError on two resolutions, or if a method is missing or the seeds differ.
    """
    seeds = _per_seed(scores)
    known = seeds.index.get_level_values("method").unique()
    for name in (variant, baseline):
        if name not in known:
            raise ValueError(f"no scores of {name!r}; there are: {', '.join(known)}")
    if not seeds.loc[variant].index.equals(seeds.loc[baseline].index):
        raise ValueError(f"{variant!r} and {baseline!r} were trained with different seeds: they do not pair")
    return seeds.loc[variant] - seeds.loc[baseline]


def _per_seed(scores: pd.DataFrame) -> pd.DataFrame:
    if scores["resolution"].nunique() > 1:
        seen = ", ".join(scores["resolution"].unique())
        raise ValueError(f"scores at {seen} resolution have no common mean: give those of one")
    means = scores.drop(columns=["scene", "resolution"]).groupby(["method", "seed"], sort=False, dropna=False)
    return means.mean()
