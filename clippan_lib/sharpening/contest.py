"""Every method on one scene of a user: fused and scored in each setting, kept as it goes."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from clippan_lib.data.pair.grid import Shift
from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.names import Image, Images, Location
from clippan_lib.data.pair.scene import Opening, ScenePair
from clippan_lib.data.pair.sources import states_read
from clippan_lib.errors import DataError, OutputError
from clippan_lib.files import file_digest, keep, kept, library_digest
from clippan_lib.fusion import CLASSICAL, STACK, get_method
from clippan_lib.fusion.consistency import consistent, consistent_with_both
from clippan_lib.fusion.registry import BANDWISE, Steps, load_stack
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.metrics import Judge, reduced_scores
from clippan_lib.sensors import Sensor
from clippan_lib.shapes import HRMS, Progress, Scores
from clippan_lib.sharpening.areas import Areas, Judged, choose_areas, settings_of
from clippan_lib.sharpening.optics import (
    Gains,
    SceneOptics,
    refuse_other_bands,
    refuse_other_kind,
    refuse_unusable,
    scene_optics,
)
from clippan_lib.sharpening.registration import FARTHEST, Placed, place
from clippan_lib.sharpening.units import NEED_ONE_UNIT

# Behind a method: nothing, LRMS alone, LRMS and PAN
BEHIND = (Steps(0, False), Steps(3, False), Steps(1, True))
BLOCKS = 4  # along a side of each area, at most, over which intervals are taken
_BLOCK = 32  # truth px, the least that a block has
_BLOCKWISE = ("MPSNR", "SAM", "Q2n")
_RGB = ("red", "green", "blue")
_IN_WORDS = {
    "reduced": "one scale down",
    "as_delivered": "one scale down, truth as delivered",
    "full": "full resolution",
}
Scored = Callable[[HRMS], Mapping[str, tuple[Scores, list[float]]]]


@dataclass(frozen=True)
class Entrant:
    """A method that takes part.

    Args:
        name: as tables have it.
        fused: (setting) → hrms.
        behind: steps of consistency behind it, each of which is an entrant of its own in the tables.
        seed: seed of its training, if it has one.
        identity: what decides its images besides its name and the contest.
    """

    name: str
    fused: Callable[[Judged], HRMS]
    behind: Sequence[Steps] = BEHIND[:1]
    seed: int | None = None
    identity: str = ""


@dataclass(frozen=True)
class Contest:
    """A scene, what is compared on it, and who takes part; made by `plan_contest`.

    Args:
        files: MS and PAN.
        opening: what was said of them.
        placed: the two on one grid, and how far MS was moved.
        optics: gains and shift.
        sensor: with these gains, and the pair's ratio.
        areas: what is compared.
        settings: with a truth and without.
        entrants: in the order of the tables.
        absent: what takes no part, and why.
        key: SHA-256 of all that decides the scores.
    """

    files: tuple[Location, Location]
    opening: Opening
    placed: Placed
    optics: SceneOptics
    sensor: Sensor
    areas: Areas
    settings: list[Judged]
    entrants: list[Entrant]
    absent: list[str]
    key: str

    @property
    def pair(self) -> ScenePair:
        return self.placed.pair


def plan_contest(
    ms: Images,
    pan: Image,
    *,
    sensor: Sensor | None = None,
    methods: Sequence[str] = (),
    networks: Sequence[Path] = (),
    gains: Gains = "measured",
    register: bool = False,
    shift: Shift | None = None,
    **opening: Unpack[Opening],
) -> Contest:
    """Look at the scene and say what will be compared; nothing is fused or written.

    Args:
        ms, pan, opening: as for `open_pair`.
        sensor: its MTF gains serve where those of the scene cannot be measured.
        methods: names of classical methods, "bandwise" or "stack"; none means all of them.
        networks: files of a run's folder networks/, trained for this sensor.
        gains, register, shift: as for `plan_job`.
    Raises: DataError, CheckpointError or another ValueError that says what was seen and what to do.
    """
    paths = located(ms), located(pan)
    trained = {path: TrainedNetwork.load(path) for path in networks}
    for path, network in trained.items():
        refuse_other_kind(sensor, network.sensor, path)
        sensor = sensor or network.sensor
    known = [*CLASSICAL, BANDWISE, STACK]
    if unknown := [name for name in methods if name not in known]:
        raise DataError(f"unknown methods {', '.join(unknown)}; known: {', '.join(known)}")
    placed = place(*paths, sensor=sensor, register=register, shift=shift, **opening)
    pair = placed.pair
    for path, network in trained.items():
        refuse_other_bands(pair, network.sensor, path)
        refuse_unusable(placed, network, path)
    optics = scene_optics(placed, sensor, gains, 0, "comparing")
    told = replace(optics.sensor, ratio=pair.ratio, rgb=colours(pair.band_names))
    areas = choose_areas(pair, sensor)
    behind, absent = _allowed(optics)
    chosen = [name for name in known if not methods or name in methods]
    if len(behind) == 1 and STACK in chosen:
        chosen.remove(STACK)
        absent.append(f"{STACK}: it ends in consistency")
    if sensor is None:
        without = [name for name in chosen if name in CLASSICAL and "gnyq_pan" in CLASSICAL[name].needs]
        chosen = [name for name in chosen if name not in without]
        absent += [f"{name}: it needs PAN's gain, which is not measured; give --sensor" for name in without]
    if placed.units:
        if trained:
            raise DataError(placed.units)
        chosen = [name for name in chosen if name not in NEED_ONE_UNIT]
        absent.append(f"{', '.join(NEED_ONE_UNIT)}: {placed.units}")
    entrants = [_by_name(name, told, behind) for name in chosen]
    entrants += [_of_file(path, network, areas, behind) for path, network in trained.items()]
    if not entrants:
        raise DataError("no method is left to compare: " + "; ".join(absent))
    decisive = [
        library_digest(),
        [*states_read(paths).items()],  # the order of several files is that of the bands
        opening,
        placed.shift,
        asdict(told),
        areas.corners,
        [file_digest(path) for path in trained],
    ]
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return Contest(
        paths, opening, placed, optics, told, areas, settings_of(areas, told), entrants, absent, key
    )


def colours(names: Sequence[str]) -> tuple[int, int, int]:
    """Which bands to show as red, green and blue: those of these names, else the first three, or one as grey.

    Args:
        names: names of the bands, in their order.
    """
    if set(_RGB) <= set(names):
        red, green, blue = (names.index(name) for name in _RGB)
        return red, green, blue
    return (0, 1, 2) if len(names) >= 3 else (0, 0, 0)


def _allowed(optics: SceneOptics) -> tuple[Sequence[Steps], list[str]]:
    """The steps of consistency that the scene allows, and why not all."""
    if optics.found is None:
        return BEHIND[:1], [
            "steps of consistency: whether MS and PAN lie on one another could not be measured"
        ]
    down, right = optics.found.shift
    if max(abs(down), abs(right)) > FARTHEST:
        off = f"PAN lies {down:+.2f} rows and {right:+.2f} columns off MS (PAN px)"
        return BEHIND[:1], [
            f"steps of consistency: {off}, and they need {FARTHEST} or less; --register moves MS"
        ]
    return BEHIND, []


def _by_name(name: str, sensor: Sensor, behind: Sequence[Steps]) -> Entrant:
    if name == STACK:

        def stacked(judged: Judged) -> HRMS:
            return replace(load_stack(sensor, sensor.ratio), sharpness=judged.sharpness)(
                judged.lrms, judged.pan
            )

        return Entrant(name, stacked)
    method = get_method(name, sensor, sensor.ratio)
    # with PAN behind it, the band-wise network is the heaviest member of the stack
    return Entrant(
        name, lambda judged: method(judged.lrms, judged.pan), behind[:2] if name == BANDWISE else behind
    )


def _of_file(path: Path, trained: TrainedNetwork, areas: Areas, behind: Sequence[Steps]) -> Entrant:
    fused = in_units(trained, areas.largest)
    return Entrant(f"{trained.name} of {path.name}", fused, behind[:1] if trained.consistency else behind[:2])


def in_units(trained: TrainedNetwork, largest: float) -> Callable[[Judged], HRMS]:
    """A trained network, called with images in other units than those of its training.

    Args:
        trained: the network.
        largest: the digital number that is 1 in what it is called with.
    """
    unit = largest / trained.max_value

    def fused(judged: Judged) -> HRMS:
        return trained.network(judged.lrms * unit, judged.pan * unit) / unit

    return fused


def run_contest(contest: Contest, scores: Path, progress: Progress | None = None) -> pd.DataFrame:
    """Fuse and score all; what is in `scores` of the same contest is not computed again.

    Args:
        contest: from `plan_contest`.
        scores: a file of `files.keep`, written after each method; one that is damaged is named, and made again.
        progress: called with (what is done, methods done, methods in all, {}).
    Returns: columns method, consistency ("none", "+3", "++1"), setting, seed, metric, value, blocks (values of that
        metric in parts of the areas; empty where it has none).
    Raises: OutputError if the scores cannot be read or written.
    """
    try:
        found = kept(scores)
        rows = found["rows"] if found and found["key"] == contest.key else {}
    except OSError as error:
        raise _unkept(scores, error) from error
    table: list[dict[str, Any]] = []
    for judged in contest.settings:
        scored = None
        for number, entrant in enumerate(contest.entrants, 1):
            name = f"{judged.setting} {entrant.name} {entrant.identity}".rstrip()
            if name not in rows:
                scored = scored or _scores(judged, contest)
                rows[name] = list(_rows(entrant, judged, contest.sensor, scored))
                try:
                    keep(scores, {"key": contest.key, "rows": rows})
                except OSError as error:
                    raise _unkept(scores, error) from error
            table += rows[name]
            if progress:
                progress(_IN_WORDS[judged.setting], number, len(contest.entrants), {})
    return pd.DataFrame(table)


def _unkept(scores: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{scores}: cannot be kept ({error.strerror}); make room on its disk, or name an output in a folder that can "
        "be written; then the same command goes on from here"
    )


def _scores(judged: Judged, contest: Contest) -> Scored:
    """What scores an image of a setting: metric to (value, values in blocks)."""
    ratio, largest = contest.sensor.ratio, contest.areas.largest
    if judged.gt is None:
        judge = Judge(judged.lrms, judged.pan, contest.sensor, ratio, largest)
        return lambda hrms: {name: (value, []) for name, value in judge.scores(hrms).items()}
    truth, parts = judged.gt, in_blocks(judged.gt)
    # of a block of one value MPSNR may be infinite and ERGAS divides by 0; where all are, the areas are the blocks
    kept = [number for number, part in enumerate(parts) if not (part.amin((1, 2)) == part.amax((1, 2))).any()]

    def scored(hrms: HRMS) -> dict[str, tuple[Scores, list[float]]]:
        whole = reduced_scores(hrms, truth, ratio, largest)
        blocks = reduced_scores(in_blocks(hrms)[kept], parts[kept], ratio, largest) if kept else whole
        return {
            name: (value, [round(part, 5) for part in blocks[name].tolist()] if name in _BLOCKWISE else [])
            for name, value in whole.items()
        }

    return scored


def in_blocks(image: HRMS) -> Float[Tensor, "n c s s"]:
    """Equal square parts of images, as a batch; what does not fill one at the bottom and right is left out.

    Args:
        image: (b, c, H, W).
    Returns: (n, c, side, side); `BLOCKS` or fewer along the shorter side.
    """
    shorter = min(image.shape[-2:])
    side = min(max(_BLOCK, shorter // BLOCKS), shorter)
    parts = image.unfold(-2, side, side).unfold(-2, side, side)  # b c rows columns side side
    return parts.permute(0, 2, 3, 1, 4, 5).reshape(-1, image.shape[1], side, side)


@torch.no_grad()
def _rows(entrant: Entrant, judged: Judged, sensor: Sensor, scored: Scored) -> Iterator[dict[str, Any]]:
    for steps, hrms in images(entrant, judged, sensor):
        about = {
            "method": entrant.name,
            "consistency": str(steps) or "none",
            "setting": judged.setting,
            "seed": entrant.seed,
        }
        for metric, (value, blocks) in scored(hrms).items():
            yield about | {"metric": metric, "value": value.mean().item(), "blocks": blocks}


def images(entrant: Entrant, judged: Judged, sensor: Sensor) -> Iterator[tuple[Steps, HRMS]]:
    """What an entrant makes in a setting, clipped to [0, 1]: without consistency behind it, and with each kind.

    Args:
        entrant, judged: a method of a contest, and the setting in which it is judged.
        sensor: sensor of the contest.
    """
    plain = entrant.fused(judged)
    for steps in entrant.behind:
        bound = (sensor.gnyq, sensor.ratio, steps.count)
        if steps.with_pan:
            hrms = consistent_with_both(plain, judged.lrms, judged.pan, *bound, judged.sharpness)
        else:
            hrms = consistent(plain, judged.lrms, *bound)
        yield steps, hrms.clamp(0, 1)
