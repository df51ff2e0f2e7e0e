"""A supervisor put through its gates (`evaluation.gates`), beside the same CLIP with random weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from clippan_lib.clip.model import load_clip
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.evaluation.gates import Case, ascend, point, rank
from clippan_lib.evaluation.intervals import confidence_interval
from clippan_lib.fusion.walk import SIZE, STEPS
from clippan_lib.losses.guidance import guide
from clippan_lib.shapes import Progress
from clippan_lib.training.deliveries import METHODS, UNSEEN_METHODS, Delivery, make, toned

FIRST_SEED = 4_950_000  # of deliveries that nothing in the package is trained on
SIDE = 16  # LRMS px of a case: many small ones say more than few large ones
START = "bandwise"  # of the walk: among the best that methods make here
GATES = {
    "ranking, fused": "pairs of fusions in the right order",
    "ranking, spoiled": "pairs of spoiled truths in the right order",
    "ranking, spoiled, unseen": "the same, spoiled in ways never trained on",
    "cosine": f"of minus the gradient with what {START} lacks",
    "walk": f"dB that {STEPS} steps from {START} gain",
}
_CHANCE = {"cosine": 0.0, "walk": 0.0}
_RANDOM = "random:0"


@dataclass(frozen=True)
class Gate:
    """One gate.

    Args:
        name: a key of `GATES`.
        mean, low, high: over deliveries, with a 95 % interval.
        control: mean of the same CLIP with random weights.
        above: mean difference from the control, paired, and the lower end of its 95 % interval.
    """

    name: str
    mean: float
    low: float
    high: float
    control: float
    above: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Surely better than chance, and than random weights."""
        return self.low > _CHANCE.get(self.name, 0.5) and self.above[1] > 0


def judge(
    supervisor: Supervisor,
    dense: bool = False,
    *,
    count: int,
    progress: Progress | None = None,
) -> list[Gate]:
    """Put a supervisor through all gates, on drawn deliveries with its bands whose truth is known.

    Args:
        supervisor: adapted or not.
        dense: judge the loss at every place.
        count: number of deliveries, 2 at least.
        progress: called with ("deliveries", done, count, {}).
    Raises: ValueError on bands or a ratio that deliveries cannot have (`deliveries.make`).
    """
    if count < 2:
        raise ValueError(f"{count} deliveries allow no interval; give 2 or more")
    control = with_random_weights(supervisor)
    rows: dict[str, list[dict[str, float]]] = {"supervisor": [], "control": []}
    for number in range(count):
        delivery = make(FIRST_SEED + number, (*METHODS, *UNSEEN_METHODS), supervisor.sensor)
        delivery = toned(delivery, supervisor.stretch("lrms"), supervisor.stretch("pan"))
        case = case_of(delivery, float(supervisor.sensor.max_value))
        for name, of in (("supervisor", supervisor), ("control", control)):
            rows[name].append(_scores(of, case, dense))
        if progress is not None:
            progress("deliveries", number + 1, count, {})
    ours, theirs = (pd.DataFrame(rows[name]) for name in ("supervisor", "control"))
    return [_gate(name, ours[name], theirs[name]) for name in GATES]


def table(gates: Sequence[Gate]) -> pd.DataFrame:
    """A row per gate: its mean with a 95 % interval, that of random weights, and 1 in `passed` or 0."""
    rows = {
        gate.name: {
            "passed": int(gate.passed),
            "mean": gate.mean,
            "low": gate.low,
            "high": gate.high,
            "random weights": gate.control,
            "above them": gate.above[0],
            "above them, low": gate.above[1],
        }
        for gate in gates
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def verdict(passed: pd.Series) -> str:
    """A sentence on gates, 1 or 0 by name: what a report says of the supervisor that its images were trained with."""
    failed = [name for name, sure in passed.items() if not sure]
    if not failed:
        return f"passes all {len(passed)} gates"
    named = "; ".join(f"{name} ({GATES[name]})" for name in failed)
    return f"fails {len(failed)} of {len(passed)} gates, so it is no judge of fused images yet: {named}"


def with_random_weights(supervisor: Supervisor) -> Supervisor:
    """The control: the same architecture, stretch, texts and options; weights of towers and adapters drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        towers = load_clip(supervisor.towers.name, _RANDOM)
        control = Supervisor(towers, supervisor.sensor, supervisor.prompts, **supervisor.options)
    for role, stem in control.stems.items():
        if supervisor.options["stem"] == "pca":  # which is fitted, as the stretch is
            stem.load_state_dict(supervisor.stems[role].state_dict())
        control.stretch(role).load_state_dict(supervisor.stretch(role).state_dict())
    return control.to(supervisor.raw_texts.device).freeze()


def case_of(delivery: Delivery, max_value: float) -> Case:
    """The middle of a delivery as a case for the gates; `max_value` is the largest digital number."""
    ratio = delivery.sensor.ratio

    def middle(image: Tensor, scale: int = ratio) -> Tensor:
        top, left = ((side - scale * SIDE) // 2 for side in image.shape[-2:])
        return image[..., top : top + scale * SIDE, left : left + scale * SIDE].float()

    fused = {name: middle(image) for name, image in delivery.fused.items()}
    images = middle(delivery.lrms, 1), middle(delivery.pan), middle(delivery.gt)
    return Case("drawn", *images, fused, delivery.sensor.gnyq, ratio, max_value)


def _scores(supervisor: Supervisor, case: Case, dense: bool) -> dict[str, float]:
    device = supervisor.raw_texts.device
    with torch.no_grad():
        of_pair = guide(supervisor, case.lrms.to(device), case.pan.to(device), dense)

    def loss(images: Tensor) -> Tensor:
        return of_pair(images.to(device)).cpu()

    right, start = rank(loss, case).right, replace(case, fused={START: case.fused[START]})
    found = {f"ranking, {group}": value for group, value in right.items()}
    found["cosine"] = point(loss, start).pixels[START]
    found["walk"] = ascend(loss, start, START, SIZE, (STEPS,))[STEPS]
    return found


def _gate(name: str, ours: pd.Series, theirs: pd.Series) -> Gate:
    mean, half = confidence_interval(ours.to_numpy())
    ahead, spread = confidence_interval((ours - theirs).to_numpy())
    return Gate(name, mean, mean - half, mean + half, float(theirs.mean()), (ahead, ahead - spread))
