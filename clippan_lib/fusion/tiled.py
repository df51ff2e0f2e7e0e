"""Methods as whole scenes need them: in stages, tile by tile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import lcm

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clippan_lib.fusion.classical.stages import Stages, Tally
from clippan_lib.fusion.consistency import Consistent, consistent, reach_with_both, stages_with_both
from clippan_lib.fusion.consistency import reach as of_consistency
from clippan_lib.fusion.networks.bandwise import BandWise
from clippan_lib.fusion.networks.lms_network import LmsNetwork
from clippan_lib.fusion.registry import Steps, find_method
from clippan_lib.fusion.stack import STEPS, Stack
from clippan_lib.mtf import upsample
from clippan_lib.sensors import Sensor


@dataclass(frozen=True)
class StagedMethod:
    """A method bound to a sensor, for scenes that are fused tile by tile; picklable.

    Args:
        stages: (lrms, pan) of a tile → the generator that asks for what it needs of the whole scene.
        reach: LRMS px of apron that a tile needs on all sides; None if the method looks at its whole image, so
            that each tile is an image of its own.
        align: LRMS px; a tile, apron included, must start at a multiple of it.
    """

    stages: Callable[[Tensor, Tensor], Stages]
    reach: int | None
    align: int = 1

    def consistently(self, gnyq: Sequence[float], ratio: int, steps: int) -> "StagedMethod":
        """The same with `steps` of consistency behind it, which reach further."""
        if not steps:
            return self
        stages = partial(_consistently, self.stages, tuple(gnyq), ratio, steps)
        reach = None if self.reach is None else self.reach + of_consistency(ratio, steps)
        return replace(self, stages=stages, reach=reach)

    def consistently_with_both(self, gnyq: Sequence[float], ratio: int, steps: int) -> "StagedMethod":
        """The same with `steps` of consistency with LRMS and PAN behind it."""
        stages = partial(_consistently_with_both, self.stages, tuple(gnyq), ratio, steps)
        reach = None if self.reach is None else self.reach + reach_with_both(ratio, steps)
        return replace(self, stages=stages, reach=reach)

    def behind(self, steps: Steps, gnyq: Sequence[float], ratio: int) -> "StagedMethod":
        """The same with the steps of a name behind it."""
        add = self.consistently_with_both if steps.with_pan else self.consistently
        return add(gnyq, ratio, steps.count)


def _consistently(
    before: Callable[[Tensor, Tensor], Stages],
    gnyq: tuple[float, ...],
    ratio: int,
    steps: int,
    lrms: Tensor,
    pan: Tensor,
) -> Stages:
    hrms = yield from before(lrms, pan)
    return consistent(hrms, lrms, gnyq, ratio, steps)


def _consistently_with_both(
    before: Callable[[Tensor, Tensor], Stages],
    gnyq: tuple[float, ...],
    ratio: int,
    steps: int,
    lrms: Tensor,
    pan: Tensor,
) -> Stages:
    hrms = yield from before(lrms, pan)
    return (yield from stages_with_both(hrms, lrms, pan, gnyq, ratio, steps))


def staged_method(name: str, sensor: Sensor | None, ratio: int) -> StagedMethod:
    """A classical method as `get_method` binds it, in stages.

    Args:
        name: of a classical method, as `registry.find_method` takes it.
        sensor: its MTF gains; None for a method that uses none.
        ratio: PAN-to-MS scale of the images, which may differ from the sensor's.
    Raises: ValueError on an unknown name, listing the known ones, and on a method that needs a sensor without one.
    """
    row, steps = find_method(name)
    plain = StagedMethod(partial(row.fuse.stages, **row.settings(sensor, ratio)), row.reach(ratio))
    if steps.count and sensor is None:
        raise ValueError(f"{name} needs the MTF gains of a sensor for its steps of consistency; give one")
    return plain.behind(steps, sensor.gnyq, ratio) if sensor and steps.count else plain


def staged_stack(
    stack: Stack, weights: Mapping[str, float], device: str | torch.device = "cpu"
) -> StagedMethod:
    """A stack with given weights, in stages; its members ask their questions side by side.

    Args:
        stack: as `get_method` makes it.
        weights: by name of its members, as `Stack.weigh` gives them.
        device: where the images will be; networks among the members are moved there.
    """
    gnyq, ratio = stack.sensor.gnyq, stack.sensor.ratio
    chosen = [name for name, weight in weights.items() if weight > 0]
    parts = [
        as_staged(method.to(device))
        if isinstance(method, nn.Module)
        else staged_method(name, stack.sensor, ratio)
        for name, method in ((name, stack.methods[name]) for name in chosen)
    ]
    reaches = [part.reach for part in parts]
    known = [reach for reach in reaches if reach is not None]
    mean = StagedMethod(
        partial(_together, tuple(part.stages for part in parts), tuple(weights[name] for name in chosen)),
        max(known) if len(known) == len(reaches) else None,
        lcm(*(part.align for part in parts)),
    )
    return mean.consistently_with_both(gnyq, ratio, STEPS)


def _together(
    parts: tuple[Callable[[Tensor, Tensor], Stages], ...],
    weights: tuple[float, ...],
    lrms: Tensor,
    pan: Tensor,
) -> Stages:
    total = torch.zeros(())
    asking: list[tuple[float, Stages, tuple[Tally, ...] | None]] = [
        (weight, part(lrms, pan), None) for weight, part in zip(weights, parts, strict=True)
    ]
    while asking:
        asked = []
        for weight, stages, answers in asking:
            try:
                questions = next(stages) if answers is None else stages.send(answers)
            except StopIteration as end:
                total = total + weight * end.value
            else:
                asked.append((weight, stages, questions))
        if not asked:
            break
        found = yield tuple(question for *_, questions in asked for question in questions)
        asking, start = [], 0
        for weight, stages, questions in asked:
            asking.append((weight, stages, tuple(found[start : start + len(questions)])))
            start += len(questions)
    return total


def as_staged(network: nn.Module) -> StagedMethod:
    """A network in stages: but for the band-wise one it asks for nothing of the scene.

    Args:
        network: in the mode and on the device where it shall run. It may say how far a pixel depends on others,
            as attribute `reach`, and where its windows start, as `align`, as in `StagedMethod`; one without
            `reach` is taken to look at its whole image. An `LmsNetwork` is spared most of the apron.
    """
    if isinstance(network, Consistent):
        return as_staged(network.network).consistently(network.gnyq, network.ratio, network.steps)
    reach, align = getattr(network, "reach", None), getattr(network, "align", 1)
    stages = network.stages if isinstance(network, BandWise) else partial(_at_once, network)
    return StagedMethod(stages, reach, align)


def _at_once(network: nn.Module, lrms: Tensor, pan: Tensor) -> Stages:
    yield from ()
    if not isinstance(network, LmsNetwork):
        return network(lrms, pan)
    # the layers need less of the apron than the interpolation before them
    margin = network.ratio * network.reach - network.pixels
    lms = upsample(lrms, network.ratio, border="replicate")
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    return F.pad(network.fuse(lms[inner], pan[inner]), (margin,) * 4)
