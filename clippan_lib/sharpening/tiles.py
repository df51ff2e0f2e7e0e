"""A scene cut into tiles, each read with an apron: what one method makes of one tile."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool
from torch import Tensor

from clippan_lib.data.pair.scene import PairWindow, ScenePair
from clippan_lib.fusion import StagedMethod
from clippan_lib.fusion.classical.stages import Core, Tally
from clippan_lib.shapes import HRMS


@lru_cache(maxsize=1)
def _computer(process: int) -> ThreadPoolExecutor:
    """The one thread of a process that computes, with all cores, while others read and write tiles.

    One thread, as each would keep memory, and a team of threads, of its own. A forked process has none yet.
    """
    return ThreadPoolExecutor(1)


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
        method: a method of `fusion.staged_method` or `fusion.as_staged`.
        apron: LRMS px read round a tile on all sides, as far as the scene goes.
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
            tile: a tile of `cut`.
            answers: to the method's questions about the whole scene, stage by stage.
        """
        spans = [
            slice(max(0, part.start - self.apron), min(length, part.stop + self.apron))
            for part, length in ((tile.rows, self.pair.height), (tile.columns, self.pair.width))
        ]
        window = self.pair.read(*spans)
        inside = tuple(
            slice(part.start - span.start, part.stop - span.start)
            for part, span in zip((tile.rows, tile.columns), spans, strict=True)
        )
        outcome = _computer(os.getpid()).submit(self._compute, window, inside, answers).result()
        if isinstance(outcome, tuple):
            return outcome
        return Fused(outcome, self._inner(window.valid, inside))

    @torch.inference_mode()
    def _compute(
        self, window: PairWindow, inside: tuple[slice, ...], answers: Sequence[tuple[Tally, ...]]
    ) -> HRMS | tuple[Tally, ...]:
        pixels = self.pair.ratio**2 * self.pair.height * self.pair.width
        rows, columns = inside
        core = Core(rows, columns, window.lrms.shape[-2], window.lrms_valid, window.pan_valid, pixels)
        lrms, pan = (image.to(self.device) / self.max_value for image in (window.lrms, window.pan))
        stages = self.method.stages(lrms, pan)
        try:
            questions = next(stages)
            for answer in answers:
                questions = stages.send(answer)
            return tuple(question.tally(core) for question in questions)
        except StopIteration as end:
            return self._inner(end.value, inside).cpu() * self.max_value

    def _inner(self, image: Tensor, inside: Sequence[slice]) -> Tensor:
        rows, columns = (slice(self.pair.ratio * part.start, self.pair.ratio * part.stop) for part in inside)
        return image[..., rows, columns]
