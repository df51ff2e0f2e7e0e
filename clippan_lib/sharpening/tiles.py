"""A scene cut into tiles, each read with an apron: what one method makes of one tile."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from clippan_lib.fusion import StagedMethod
from clippan_lib.fusion.classical.stages import Core, Tally
from clippan_lib.scenes.pair import PairWindow, ScenePair
from clippan_lib.shapes import HRMS

# One tile computes at a time, with all cores, while those of other threads are read and written
_COMPUTING = Lock()


@dataclass(frozen=True)
class Tile:
    """A rectangle of the common grid, LRMS px."""

    rows: slice
    columns: slice


@dataclass(frozen=True)
class Fused:
    """A tile without its apron.

    Args:
        hrms: (1, c, H, W), digital numbers, not rounded.
        valid: (1, 1, H, W), False where PAN or LRMS is NoData.
    """

    hrms: HRMS
    valid: Bool[Tensor, "1 1 H W"]


def cut(pair: ScenePair, side: int) -> list[Tile]:
    """Tiles of `side` x `side` LRMS px, row by row; those at the lower and right edges are smaller."""

    def parts(length: int) -> Iterator[slice]:
        return (slice(start, min(start + side, length)) for start in range(0, length, side))

    return [Tile(rows, columns) for rows in parts(pair.height) for columns in parts(pair.width)]


@dataclass(frozen=True)
class TileFuser:
    """A method at work on one scene; picklable.

    Args:
        pair: the scene.
        method: of `fusion.staged_method` or `fusion.as_staged`.
        apron: LRMS px read round a tile on all sides.
        max_value: what digital numbers are divided by for the method.
        device: where it computes.
    """

    pair: ScenePair
    method: StagedMethod
    apron: int
    max_value: float
    device: torch.device

    def visit(self, tile: Tile, answers: Sequence[tuple[Tally, ...]]) -> Fused | tuple[Tally, ...]:
        """Go as far as the answers lead: the fused tile, or what it adds to the answers to the next questions.

        Args:
            tile: of `cut`.
            answers: to the method's questions about the whole scene, stage by stage.
        """
        window = self._read(tile)
        height, width = window.lrms.shape[-2:]
        inside = [slice(self.apron, side - self.apron) for side in (height, width)]
        core = Core(
            *inside,
            height,
            window.lrms_valid,
            window.pan_valid,
            self.pair.height * self.pair.width * self.pair.ratio**2,
        )
        with _COMPUTING, torch.inference_mode():
            images = ((image / self.max_value).to(self.device) for image in (window.lrms, window.pan))
            stages = self.method.stages(*images)
            try:
                questions = next(stages)
                for answer in answers:
                    questions = stages.send(answer)
                return tuple(question.tally(core) for question in questions)
            except StopIteration as end:
                hrms = self._inner(end.value, inside).cpu() * self.max_value
        lrms_valid = window.lrms_valid
        for axis in (-2, -1):
            lrms_valid = lrms_valid.repeat_interleave(self.pair.ratio, axis)
        return Fused(hrms, self._inner(lrms_valid & window.pan_valid, inside))

    def _inner(self, image: Tensor, inside: Sequence[slice]) -> Tensor:
        rows, columns = (slice(self.pair.ratio * part.start, self.pair.ratio * part.stop) for part in inside)
        return image[..., rows, columns]

    def _read(self, tile: Tile) -> PairWindow:
        """The tile with its apron; beyond the scene its border pixels are repeated, and count as NoData."""
        spans, margins = [], []
        for part, length in ((tile.rows, self.pair.height), (tile.columns, self.pair.width)):
            start, stop = max(0, part.start - self.apron), min(length, part.stop + self.apron)
            spans.append(slice(start, stop))
            margins.append((start - part.start + self.apron, part.stop + self.apron - stop))
        window = self.pair.read(*spans)
        around = [*margins[1], *margins[0]]
        if not any(around):
            return window
        fine = [self.pair.ratio * margin for margin in around]
        return PairWindow(
            F.pad(window.lrms, around, mode="replicate"),
            F.pad(window.pan, fine, mode="replicate"),
            F.pad(window.lrms_valid, around),
            F.pad(window.pan_valid, fine),
        )
