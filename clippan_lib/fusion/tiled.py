"""Methods as whole scenes need them: in stages, tile by tile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from math import lcm
from operator import add

import torch
from torch import Tensor, nn

from clippan_lib.fusion.classical.stages import Stages, side_by_side
from clippan_lib.fusion.consistency import Consistent, consistent, reach_with_both, stages_with_both
from clippan_lib.fusion.consistency import reach as of_consistency
from clippan_lib.fusion.networks.bandwise import BandWise
from clippan_lib.fusion.registry import Steps, find_method
from clippan_lib.fusion.stack import Stack
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

    def consistently(
        self, gnyq: Sequence[float], ratio: int, steps: int, sharpness: float | None = None
    ) -> "StagedMethod":
        """The same with `steps` of consistency behind it, which reach further.

        Args:
            gnyq, ratio, steps: as for `consistent`.
            sharpness: sharpness of PAN, as for `consistent_with_both`; None for consistency with LRMS alone.
        """
        if not steps:
            return self
        stages = partial(_consistently, self.stages, tuple(gnyq), ratio, steps, sharpness)
        further = (of_consistency if sharpness is None else reach_with_both)(ratio, steps)
        return replace(self, stages=stages, reach=None if self.reach is None else self.reach + further)

    def behind(self, steps: Steps, gnyq: Sequence[float], ratio: int) -> "StagedMethod":
        """The same with the steps of a name behind it."""
        return self.consistently(gnyq, ratio, steps.count, 1.0 if steps.with_pan else None)


def _consistently(
    before: Callable[[Tensor, Tensor], Stages],
    gnyq: tuple[float, ...],
    ratio: int,
    steps: int,
    sharpness: float | None,
    lrms: Tensor,
    pan: Tensor,
) -> Stages:
    if sharpness is None:
        hrms = yield from before(lrms, pan)
        return consistent(hrms, lrms, gnyq, ratio, steps)
    return (yield from stages_with_both(before(lrms, pan), lrms, pan, gnyq, ratio, steps, sharpness))


def staged_method(name: str, sensor: Sensor | None, ratio: int) -> StagedMethod:
    """A classical method as `get_method` binds it, in stages.

    Args:
        name: name of a classical method, as `registry.find_method` takes it.
        sensor: its MTF gains; None for a method that uses none.
        ratio: PAN-to-MS scale of the images, which may differ from the sensor's.
    Raises: ValueError on an unknown name, listing the known ones, and on a method that needs a sensor without one.
    """
    row, steps = find_method(name)
    plain = StagedMethod(partial(row.fuse.stages, **row.settings(sensor, ratio)), row.reach(ratio))
    if steps.count and sensor is None:
        raise ValueError(
            f"{name} needs the MTF gains of a sensor for its steps of consistency; give one (the command's option "
            "--sensor)"
        )
    return plain.behind(steps, sensor.gnyq, ratio) if sensor and steps.count else plain


def staged_stack(
    stack: Stack, weights: Mapping[str, float], device: str | torch.device = "cpu"
) -> StagedMethod:
    """A stack with given weights, in stages; its members ask their questions side by side.

    Args:
        stack: as `get_method` makes it.
        weights: weights by name of its members, as `Stack.weigh` gives them.
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
    return mean.consistently(gnyq, ratio, stack.steps, stack.sharpness)


def _together(
    parts: tuple[Callable[[Tensor, Tensor], Stages], ...],
    weights: tuple[float, ...],
    lrms: Tensor,
    pan: Tensor,
) -> Stages:
    images = yield from side_by_side(*(part(lrms, pan) for part in parts))
    return reduce(add, (weight * image for weight, image in zip(weights, images, strict=True)))


def as_staged(network: nn.Module) -> StagedMethod:
    """A network in stages: but for the band-wise one it asks for nothing of the scene.

    Args:
        network: in the mode and on the device where it shall run. It may say how far a pixel depends on others,
            as attribute `reach`, and where its windows start, as `align`, as in `StagedMethod`; one without
            `reach` is taken to look at its whole image.
    """
    if isinstance(network, Consistent):
        bound = network.gnyq, network.ratio, network.steps, network.sharpness
        return as_staged(network.network).consistently(*bound)
    reach, align = getattr(network, "reach", None), getattr(network, "align", 1)
    stages = network.stages if isinstance(network, BandWise) else partial(_at_once, network)
    return StagedMethod(stages, reach, align)


def _at_once(network: nn.Module, lrms: Tensor, pan: Tensor) -> Stages:
    yield from ()
    return network(lrms, pan)
