"""A method bound to a scene: what it needs of it is measured here, and what would do harm is refused."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clippan_lib.data.pair.scene import ScenePair
from clippan_lib.errors import DataError
from clippan_lib.files import file_digest
from clippan_lib.fusion import STACK, StagedMethod, as_staged, find_method, staged_method, staged_stack
from clippan_lib.fusion.plugins import state_of
from clippan_lib.fusion.registry import BANDWISE, Steps, load_bandwise, load_stack
from clippan_lib.fusion.stack import STEPS, Stack, in_words, rounded
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.optics import Gains, SceneOptics, scene_optics
from clippan_lib.sharpening.registration import Placed
from clippan_lib.sharpening.windows import far_windows, held, scaled


@dataclass(frozen=True)
class Bound:
    """A method bound to a scene.

    Args:
        staged: the method.
        max_value: what digital numbers are divided by for it.
        title: in words.
        optics: the gains that it uses; None where it uses none of the scene.
        identity: what decides its pixels, as JSON.
    """

    staged: StagedMethod
    max_value: float
    title: str
    optics: SceneOptics | None
    identity: list[Any]


def classical(name: str, placed: Placed, sensor: Sensor | None, gains: Gains, consistent: int) -> Bound:
    """A method of the registry, with the steps of its name or those of the option.

    Raises: DataError on both, as `scene_optics`, or as the method does without a sensor.
    """
    row, steps = find_method(name)
    if steps.count and consistent:
        raise DataError(
            f"{name} has {steps.count} steps of consistency, and --consistent asks for {consistent}; leave one of the "
            "two out"
        )
    if "gnyq_pan" in row.needs:
        row.settings(
            sensor, placed.pair.ratio
        )  # refuses where there is no sensor: PAN's own gain is not measured
    own, largest = state_of(row.name), 1.0
    if own is not None:
        if sensor is None:
            raise DataError(f"{row.name} takes images in [0, 1]: give the sensor, whose bits say what is 1")
        largest = float(sensor.max_value)
    steps, optics = steps if steps.count else Steps(consistent, False), None
    if row.needs or steps.count:
        optics = scene_optics(placed, sensor, gains, steps.count, name)
        sensor = optics.sensor
    title = f"{row.name}{steps}"
    identity = [title, sensor and asdict(sensor), *filter(None, [own])]
    return Bound(staged_method(title, sensor, placed.pair.ratio), largest, title, optics, identity)


def bandwise(
    placed: Placed, sensor: Sensor | None, gains: Gains, consistent: int, device: torch.device
) -> Bound:
    """The network that comes with the package; its features are in units of the scene's own deviations.

    Raises: DataError as `scene_optics`.
    """
    optics = scene_optics(placed, sensor, gains, consistent, BANDWISE)
    network = _on(device, load_bandwise(optics.sensor, placed.pair.ratio))
    staged = as_staged(network).consistently(optics.gnyq, placed.pair.ratio, consistent)
    title = _title(BANDWISE, consistent)
    return Bound(staged, 1.0, title, optics, [title])


def stacked(
    placed: Placed, sensor: Sensor | None, gains: Gains, consistent: int, device: torch.device
) -> Bound:
    """The weighted mean of several methods, its weights found on a few windows of the scene.

    Raises: DataError on steps of consistency, of which it has its own, or as `scene_optics`.
    """
    if consistent:
        raise DataError(
            f"{STACK} has its own steps of consistency, and --consistent asks for {consistent}; leave it out"
        )
    optics = scene_optics(placed, sensor, gains, STEPS, STACK)
    stack = load_stack(optics.sensor, placed.pair.ratio)
    weights = _weights(placed.pair, stack)
    title = f"{STACK} of {in_words(weights)}"
    return Bound(staged_stack(stack, weights, device), 1.0, title, optics, [STACK, weights])


def _weights(pair: ScenePair, stack: Stack) -> dict[str, float]:
    """From windows without NoData; if there are none, those that others are drawn towards."""
    whole = [window for window in far_windows(pair) if held(window).all()]
    if not whole:
        return rounded(stack.prior)
    lrms, pan = (torch.cat([getattr(window, name) for window in whole]) for name in ("lrms", "pan"))
    return rounded(stack.weigh(scaled(lrms), scaled(pan)))


def of_file(
    file: str | Path,
    trained: TrainedNetwork,
    placed: Placed,
    gains: Gains,
    consistent: int,
    device: torch.device,
) -> Bound:
    """A trained network, whose own layers keep the gains of its training.

    Raises: DataError as `scene_optics`.
    """
    staged, optics = as_staged(_on(device, trained.network)), None
    if consistent:
        optics = scene_optics(placed, trained.sensor, gains, consistent, trained.name)
        staged = staged.consistently(optics.gnyq, placed.pair.ratio, consistent)
    title = f"{_title(trained.name, consistent)} of {file}"
    return Bound(staged, trained.max_value, title, optics, [file_digest(Path(file)), consistent])


def _title(name: str, steps: int) -> str:
    return f"{name}+{steps}" if steps else name


def _on(device: torch.device, network: nn.Module) -> nn.Module:
    return network.to(device).to(memory_format=torch.channels_last)
