"""A scene, a method and the size of tiles: checked before anything is read."""

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from math import lcm
from pathlib import Path
from typing import Unpack

import torch

from clippan_lib import __version__
from clippan_lib.assets import EMBEDDED
from clippan_lib.data.pair.grid import STILL, Shift
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.names import Image, Images, Location, as_given
from clippan_lib.data.pair.scene import Opening, ScenePair
from clippan_lib.data.pair.sources import files_of, states_read
from clippan_lib.errors import DataError
from clippan_lib.files import library_digest
from clippan_lib.fusion import STACK, is_classical
from clippan_lib.fusion.consistency import MOST_STEPS
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.binding import bandwise, classical, of_file, stacked
from clippan_lib.sharpening.optics import (
    Gains,
    SceneOptics,
    refuse_other_bands,
    refuse_other_kind,
    refuse_unusable,
    scene_optics,
)
from clippan_lib.sharpening.output import BLOCK, DTYPES
from clippan_lib.sharpening.refine import Refinement, plan_refinement
from clippan_lib.sharpening.registration import Placed, place
from clippan_lib.sharpening.tiles import TileFuser, cut
from clippan_lib.sharpening.units import NEED_ONE_UNIT

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
        dtype: type of the output.
        sensor: as given, or that of the trained network.
        fuser: the scene and the method.
        side: side of a tile, LRMS px.
        title: the method, in words.
        exact: whether the output is that of a single tile that holds all; if not, the method looks at its whole
            image in such a way that every tile is an image of its own, and the output depends on `side`.
        optics: the gains that are used, and what was measured; None where the method uses none of the scene.
        key: SHA-256 of all this, of the state of the files and of the library itself.
        placed: whether, and how far, MS was moved.
        offsets: offsets of the headers, in words, where applying them would change the method's output; else "".
        read: every file that it is made from, and those beside one that speak of it.
        refinement: the walk along words behind the method, if there is one.
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
    read: tuple[Path, ...]
    refinement: Refinement | None = None

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
        found.append(self.refinement.remark if self.refinement else "")
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
        tags |= self.refinement.tags if self.refinement else {}
        if self.placed.shift_left is not None:
            tags["CLIPPAN_SHIFT"] = "{:.2f} {:.2f}".format(*self.placed.shift_left)
        if self.placed.shift != STILL:
            tags["CLIPPAN_MOVED"] = " ".join(f"{number:.8g}" for number in self.placed.shift)
        return tags


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
    refine: str | None = None,
    clip_model: str = EMBEDDED,
    clip_weights: str | None = None,
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
        refine: words that say what the image shall be; it is walked along them in the end (`sharpening.refine`).
        clip_model, clip_weights: name and weights of the CLIP that reads them, as for `load_clip`.
        register, shift: move MS onto PAN first, see `registration.place`.
        dtype: type of the output, one of `output.DTYPES`; None is one that holds the bands of MS that are used.
            Values are clipped to its range.
    Raises: DataError, CheckpointError or another ValueError naming what was seen and what to do.
    """
    if tile < MIN_TILE:
        raise DataError(f"a tile of {tile} PAN px is too small; give {MIN_TILE} or more")
    if not 0 <= consistent <= MOST_STEPS:
        raise DataError(f"{consistent} steps of consistency: give 0 to {MOST_STEPS}")
    if refine is None and (clip_model, clip_weights) != (EMBEDDED, None):
        raise DataError(f"a CLIP ({clip_model}) reads words, and there are none; give them (--refine)")
    paths, device = (located(ms), located(pan)), torch.device(device)
    placing = partial(place, *paths, register=register, shift=shift, **opening)
    if method in (BANDWISE, STACK):
        placed = placing(sensor=sensor)
        bind = bandwise if method == BANDWISE else stacked
        bound = bind(placed, sensor, gains, consistent, device)
    elif is_classical(str(method)):
        placed = placing(sensor=sensor)
        bound = classical(str(method), placed, sensor, gains, consistent)
    else:
        trained = TrainedNetwork.load(method)
        refuse_other_kind(sensor, trained.sensor, method)
        sensor = trained.sensor
        placed = placing(sensor=sensor)
        refuse_other_bands(placed.pair, sensor, method)
        refuse_unusable(placed, trained, method)
        bound = of_file(method, trained, placed, gains, consistent, device)
    _refuse_unlike_units(placed, str(method))
    pair = placed.pair
    staged, scene, refinement = bound.staged, bound.optics, None
    if refine is not None:
        scene = scene or scene_optics(placed, sensor, gains, 0, "a walk along words")
        refinement = plan_refinement(
            refine, (clip_model, clip_weights), placed, scene, staged, bound.max_value, device
        )
        staged = refinement.behind(staged)
    dtype = _output_dtype(paths[0], pair.dtype, dtype)
    apron = -(-(WIDE_APRON if staged.reach is None else staged.reach) // staged.align) * staged.align
    # borders on those of the output's blocks, so that none is compressed twice, if tiles are large enough
    step = lcm(pair.ratio * staged.align, BLOCK)
    step = step if tile >= step else pair.ratio * staged.align
    side = max(tile // step, 1) * step // pair.ratio
    if staged.reach is not None and max(pair.height, pair.width) <= side + 2 * apron:
        side = max(pair.height, pair.width)  # one tile, no larger than others are with their aprons
    _refuse_without_data(pair, side, *paths)
    decisive = [
        library_digest(),
        [*states_read(paths).items()],  # the order of several files is that of the bands
        opening,
        placed.shift,
        bound.identity,
        scene and scene.record,
        refinement and refinement.record,
        apron,
        side,
        dtype,
    ]
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    fuser = TileFuser(pair, staged, apron, bound.max_value, device)
    offsets = "" if str(method).partition("+")[0] in ANY_OFFSET else pair.carried.offsets
    exact = staged.reach is not None
    others = [Path(name) for name in (method, clip_weights) if name and Path(name).is_file()]
    return Job(
        paths,
        (as_given(ms), as_given(pan)),
        dtype,
        sensor,
        fuser,
        side,
        bound.title,
        exact,
        scene,
        key,
        placed,
        offsets,
        (*files_of(paths), *others),
        refinement,
    )


def _refuse_without_data(pair: ScenePair, side: int, ms: Location, pan: Location) -> None:
    """Reads up to the first tile with data: mostly one."""
    if any(pair.read(tile.rows, tile.columns).valid.any() for tile in cut(pair, side)):
        return
    raise DataError(
        pair.empty
        or f"{ms} and {pan}: no pixel holds data in both; check their NoData values, or cut them to where they do"
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
