"""A scene, a method and the size of tiles: checked before anything is read."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from math import lcm
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn

from clippan_lib import __version__
from clippan_lib.data.pair.grid import STILL, Shift
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.names import Image, Images, Location, as_given
from clippan_lib.data.pair.scene import Opening, ScenePair
from clippan_lib.data.pair.sources import states_read
from clippan_lib.errors import DataError
from clippan_lib.files import file_digest, library_digest
from clippan_lib.fusion import (
    STACK,
    StagedMethod,
    as_staged,
    find_method,
    is_classical,
    staged_method,
    staged_stack,
)
from clippan_lib.fusion.registry import BANDWISE, Steps, load_bandwise, load_stack
from clippan_lib.fusion.stack import STEPS, Stack, in_words, rounded
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.optics import (
    Gains,
    SceneOptics,
    refuse_other_bands,
    refuse_other_kind,
    scene_optics,
)
from clippan_lib.sharpening.output import BLOCK, DTYPES
from clippan_lib.sharpening.registration import Placed, place
from clippan_lib.sharpening.tiles import TileFuser
from clippan_lib.sharpening.units import NEED_ONE_UNIT
from clippan_lib.sharpening.windows import far_windows, held, scaled

MIN_TILE = 64  # PAN px
# Adding a constant to all values of a band, or of PAN, adds it to their output, or changes nothing
ANY_OFFSET = ("exp", "gihs", "gs", "gsa", "mtf_glp", "mtf_glp_fs", "tv")
WIDE_APRON = 16  # LRMS px, for methods whose reach has no end


@dataclass(frozen=True)
class Job:
    """All that decides the pixels of an output; made and checked by `plan_job`.

    Args:
        files: MS and PAN.
        given: what they were called.
        dtype: of the output.
        sensor: as given, or that of the trained network.
        fuser: the scene and the method.
        side: of a tile, LRMS px.
        title: the method, in words.
        exact: whether the output is that of a single tile that holds all; if not, the method looks at its whole
            image in such a way that every tile is an image of its own, and the output depends on `side`.
        optics: the gains that are used, and what was measured; None where the method uses none of the scene.
        key: SHA-256 of all this, of the state of the files and of the library itself.
        placed: whether, and how far, MS was moved.
        offsets: of the headers, in words, where the method's output would be another if they were applied; else "".
    """

    files: tuple[Location, Location]
    given: tuple[str | list[str], str | list[str]]
    dtype: str
    sensor: Sensor | None
    fuser: TileFuser
    side: int
    title: str
    exact: bool
    optics: SceneOptics | None
    key: str
    placed: Placed
    offsets: str

    @property
    def pair(self) -> ScenePair:
        return self.fuser.pair

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        return self.pair.ratio * self.pair.height, self.pair.ratio * self.pair.width

    @property
    def remarks(self) -> list[str]:
        """What a user should know of how the output is made."""
        found = [*self.pair.remarks, self.placed.remark, self.placed.units]
        found.append(self.optics.remark if self.optics else "")
        if self.title != "exp":
            found.append(self.placed.unseen)
        if not self.exact:
            found.append(
                "Note: this method looks at its whole image; here every tile of "
                f"{self.pair.ratio * self.side} px is one, and the result depends on --tile"
            )
        if self.offsets:
            found.append(
                f"Note: {self.title} works on stored numbers; the headers' offsets ({self.offsets}) are not applied"
            )
        return [remark for remark in found if remark]

    @property
    def tags(self) -> dict[str, str]:
        """What the output says of its making."""
        tags = {"CLIPPAN_METHOD": self.title, "CLIPPAN_VERSION": __version__}
        tags |= self.optics.tags if self.optics else {}
        if self.placed.shift_left is not None:
            tags["CLIPPAN_SHIFT"] = "{:.2f} {:.2f}".format(*self.placed.shift_left)
        if self.placed.shift != STILL:
            tags["CLIPPAN_MOVED"] = " ".join(f"{number:.8g}" for number in self.placed.shift)
        return tags


@dataclass(frozen=True)
class _Bound:
    """A method bound to a scene; `identity` is what decides its pixels, as JSON."""

    staged: StagedMethod
    max_value: float
    title: str
    optics: SceneOptics | None
    identity: list[Any]


def plan_job(
    ms: Images,
    pan: Image,
    method: str | Path = "gsa",
    *,
    sensor: Sensor | None = None,
    tile: int = 1024,
    device: str | torch.device = "cpu",
    gains: Gains = "measured",
    consistent: int = 0,
    register: bool = False,
    shift: Shift | None = None,
    dtype: str | None = None,
    **opening: Unpack[Opening],
) -> Job:
    """Check what can be checked before the scene is fused; nothing is written.

    A few windows of the scene are read and measured, unless a shift is given and the method needs no gains of it.

    Args:
        ms, pan, opening: as for `open_pair`.
        method: name of a classical method, with steps of consistency or without ("bt_h+3", "bt_h++3"); "bandwise",
            the network that comes with the package; "stack", the weighted mean of several methods; or a file of a
            run's folder networks/.
        sensor: its MTF gains serve where those of the scene cannot be measured, and it names the bands; a trained
            network brings its own.
        tile: largest side of a tile, PAN px; memory grows with its square.
        device: where to compute.
        gains: "measured" on the scene, where the fit is good, or those of the sensor's "table". The layers of a
            trained network keep those that it was trained with.
        consistent: steps of `fusion.consistency` behind the method.
        register, shift: move MS onto PAN first, see `registration.place`.
        dtype: of the output, one of `output.DTYPES`; None is one that holds the bands of MS that are used. Values are
            clipped to what it holds.
    Raises: DataError, CheckpointError or another ValueError naming what was seen and what to do.
    """
    if tile < MIN_TILE:
        raise DataError(f"a tile of {tile} PAN px is too small; give {MIN_TILE} or more")
    if consistent < 0:
        raise DataError(f"{consistent} steps of consistency: give 0 or more")
    paths, device = (located(ms), located(pan)), torch.device(device)
    placing = partial(place, *paths, register=register, shift=shift, **opening)
    if method in (BANDWISE, STACK):
        placed = placing(sensor=sensor)
        bind = _bandwise if method == BANDWISE else _stack
        bound = bind(placed, sensor, gains, consistent, device)
    elif is_classical(str(method)):
        placed = placing(sensor=sensor)
        bound = _classical(str(method), placed, sensor, gains, consistent)
    else:
        trained = TrainedNetwork.load(method)
        refuse_other_kind(sensor, trained.sensor, method)
        sensor = trained.sensor
        placed = placing(sensor=sensor)
        refuse_other_bands(placed.pair, sensor, method)
        bound = _of_file(method, trained, placed, gains, consistent, device)
    _refuse_unlike_units(placed, str(method))
    pair = placed.pair
    staged = bound.staged
    dtype = _output_dtype(paths[0], pair.dtype, dtype)
    apron = -(-(WIDE_APRON if staged.reach is None else staged.reach) // staged.align) * staged.align
    # borders on those of the output's blocks, so that none is compressed twice, if tiles are large enough
    step = lcm(pair.ratio * staged.align, BLOCK)
    step = step if tile >= step else pair.ratio * staged.align
    side = max(tile // step, 1) * step // pair.ratio
    if staged.reach is not None and max(pair.height, pair.width) <= side + 2 * apron:
        side = max(pair.height, pair.width)  # one tile, no larger than others are with their aprons
    optics = bound.optics and bound.optics.record
    decisive = [
        library_digest(),
        [*states_read(paths).items()],  # the order of several files is that of the bands
        opening,
        placed.shift,
        bound.identity,
        optics,
        apron,
        side,
        dtype,
    ]
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    fuser = TileFuser(pair, staged, apron, bound.max_value, device)
    offsets = "" if str(method).partition("+")[0] in ANY_OFFSET else pair.carried.offsets
    exact = staged.reach is not None
    return Job(
        paths,
        (as_given(ms), as_given(pan)),
        dtype,
        sensor,
        fuser,
        side,
        bound.title,
        exact,
        bound.optics,
        key,
        placed,
        offsets,
    )


def _refuse_unlike_units(placed: Placed, method: str) -> None:
    """Refuse methods, and trained networks, that would take PAN's level for one of MS."""
    fits = method in (BANDWISE, STACK) or (
        is_classical(method) and method.partition("+")[0] not in NEED_ONE_UNIT
    )
    if not fits and placed.units:
        raise DataError(placed.units)


def _output_dtype(ms: Location, stored: str, wanted: str | None) -> str:
    """What is written of values that are stored as another type."""
    dtype = wanted or stored
    if dtype not in DTYPES:
        what = f"the output cannot be {dtype}; choose" if wanted else f"values are {dtype}; convert them to"
        raise DataError(f"{ms}: {what} one of {', '.join(DTYPES)}")
    if stored.startswith("float") and not dtype.startswith("float"):
        raise DataError(
            f"{ms}: values are {stored}, and would be lost in {dtype}; convert MS and PAN to {dtype} first, with a "
            "scale that leaves their digits, or leave --dtype out"
        )
    return dtype


def _classical(name: str, placed: Placed, sensor: Sensor | None, gains: Gains, consistent: int) -> _Bound:
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
    steps, optics = steps if steps.count else Steps(consistent, False), None
    if row.needs or steps.count:
        optics = scene_optics(placed, sensor, gains, steps.count, name)
        sensor = optics.sensor
    title = f"{row.name}{steps}"
    identity = [title, sensor and asdict(sensor)]
    return _Bound(staged_method(title, sensor, placed.pair.ratio), 1.0, title, optics, identity)


def _bandwise(
    placed: Placed, sensor: Sensor | None, gains: Gains, consistent: int, device: torch.device
) -> _Bound:
    """The network that comes with the package; its features are in units of the scene's own deviations."""
    optics = scene_optics(placed, sensor, gains, consistent, BANDWISE)
    network = _on(device, load_bandwise(optics.sensor, placed.pair.ratio))
    staged = as_staged(network).consistently(optics.gnyq, placed.pair.ratio, consistent)
    title = _title(BANDWISE, consistent)
    return _Bound(staged, 1.0, title, optics, [title])


def _stack(
    placed: Placed, sensor: Sensor | None, gains: Gains, consistent: int, device: torch.device
) -> _Bound:
    """The weighted mean of several methods, its weights found on a few windows of the scene."""
    if consistent:
        raise DataError(
            f"{STACK} has its own steps of consistency, and --consistent asks for {consistent}; leave it out"
        )
    optics = scene_optics(placed, sensor, gains, STEPS, STACK)
    stack = load_stack(optics.sensor, placed.pair.ratio)
    weights = _weights(placed.pair, stack)
    title = f"{STACK} of {in_words(weights)}"
    return _Bound(staged_stack(stack, weights, device), 1.0, title, optics, [STACK, weights])


def _weights(pair: ScenePair, stack: Stack) -> dict[str, float]:
    """From windows without NoData; if there are none, those that others are drawn towards."""
    whole = [window for window in far_windows(pair) if held(window).all()]
    if not whole:
        return rounded(stack.prior)
    lrms, pan = (torch.cat([getattr(window, name) for window in whole]) for name in ("lrms", "pan"))
    return rounded(stack.weigh(scaled(lrms), scaled(pan)))


def _of_file(
    file: str | Path,
    trained: TrainedNetwork,
    placed: Placed,
    gains: Gains,
    consistent: int,
    device: torch.device,
) -> _Bound:
    """A trained network, whose own layers keep the gains of its training."""
    staged, optics = as_staged(_on(device, trained.network)), None
    if consistent:
        optics = scene_optics(placed, trained.sensor, gains, consistent, trained.name)
        staged = staged.consistently(optics.gnyq, placed.pair.ratio, consistent)
    title = f"{_title(trained.name, consistent)} of {file}"
    return _Bound(staged, trained.max_value, title, optics, [file_digest(Path(file)), consistent])


def _title(name: str, steps: int) -> str:
    return f"{name}+{steps}" if steps else name


def _on(device: torch.device, network: nn.Module) -> nn.Module:
    return network.to(device).to(memory_format=torch.channels_last)
