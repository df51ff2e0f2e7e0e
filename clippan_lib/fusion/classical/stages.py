"""Methods that ask for statistics of the whole scene: written once, run on an image in memory or tile by tile.

Such a method is a generator. Where its equations need to know something of the scene it yields requests, made
of the images it has so far, and gets the answers back; in the end it returns the fused image. On arrays every
request is answered from its own images. On a scene in tiles the method runs on each tile up to its requests, what
they tally is added over the tiles, and the method runs again with the sums as answers.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from clippan_lib.shapes import HRMS

Images = Float[Tensor, "b _ _ _"]


@dataclass(frozen=True)
class Core:
    """The part of a tile that counts; the rest is apron, which other tiles count.

    Args:
        rows, columns: rows and columns of the core, LRMS px inside the tile.
        height: rows of the tile, LRMS px, which tell the scale of an image.
        lrms_valid: (1, 1, h, w) of the tile; False where a pixel does not count: NoData, or beyond the scene.
        pan_valid: (1, 1, ratio*h, ratio*w), likewise.
        scene_pixels: PAN px of the whole scene.
    """

    rows: slice
    columns: slice
    height: int
    lrms_valid: Bool[Tensor, "1 1 h w"]
    pan_valid: Bool[Tensor, "1 1 H W"]
    scene_pixels: int

    def cut(self, image: Images) -> Images:
        """The core of an image of the tile, at the scale of LRMS or PAN."""
        return image[..., *self._box(image)]

    def counted(self, image: Images) -> Bool[Tensor, "_ _"]:
        """Which pixels of that core count: those valid in LRMS and PAN, as all statistics compare the two."""
        coarse, fine = (x[0, 0, *self._box(x)] for x in (self.lrms_valid, self.pan_valid))
        ratio = len(fine) // len(coarse)
        under = fine.unflatten(0, (-1, ratio)).unflatten(2, (-1, ratio))  # each LRMS pixel
        if image.shape[-2] == self.height:
            valid = coarse & under.all(-1).all(1)
        else:
            valid = (coarse[:, None, :, None] & under).flatten(2).flatten(0, 1)
        return valid.to(image.device)

    def _box(self, image: Tensor) -> tuple[slice, slice]:
        scale = image.shape[-2] // self.height
        return tuple(slice(scale * part.start, scale * part.stop) for part in (self.rows, self.columns))


@runtime_checkable
class Tally(Protocol):
    """What a request found in one tile, or, added, in several: the answer, if in all. Small, and picklable."""

    def __add__(self, other: "Tally") -> "Tally": ...


@runtime_checkable
class Request(Protocol):
    """What a method wants to know of the whole scene, held with the images of this tile that tell of it."""

    def tally(self, core: Core | None = None) -> Tally:
        """Count the core of the tile; without one, everything: the images are the scene."""


Result = TypeVar("Result")
Asking = Generator[tuple[Request, ...], tuple[Tally, ...], Result]
Stages = Asking[HRMS]


def ask(request: Request) -> Asking[Any]:
    """A part of a method that has one question, and whose result is the answer."""
    (answer,) = yield (request,)
    return answer


def side_by_side(*parts: Asking[Any]) -> Asking[list[Any]]:
    """Their results; they ask together, so the scene is gone through as often as the part with most questions needs."""
    results: list[Any] = [None] * len(parts)
    asking: list[tuple[int, tuple[Tally, ...] | None]] = [(place, None) for place in range(len(parts))]
    while asking:
        asked: list[tuple[int, tuple[Request, ...]]] = []
        for place, answers in asking:
            try:
                asked.append((place, next(parts[place]) if answers is None else parts[place].send(answers)))
            except StopIteration as end:
                results[place] = end.value
        if not asked:
            break
        found = iter((yield tuple(question for _, questions in asked for question in questions)))
        asking = [(place, tuple(next(found) for _ in questions)) for place, questions in asked]
    return results


def in_memory(stages: Stages) -> HRMS:
    """Run a method whose images are the whole scene."""
    try:
        requests = next(stages)
        while True:
            requests = stages.send(tuple(request.tally() for request in requests))
    except StopIteration as end:
        return end.value


def staged(
    reach: Callable[[int], int | None],
) -> Callable[[Callable[..., Stages]], Callable[..., HRMS]]:
    """Make a generator of `Stages` a function of arrays, which keeps the generator as its attribute `stages`.

    Args:
        reach: ratio → LRMS px of apron round a tile beyond which nothing changes its core, nor what the core
            adds to a tally; None if the method looks at its whole image in another way than by requests. The
            function keeps it as its attribute `reach`.
    """

    def decorate(stages: Callable[..., Stages]) -> Callable[..., HRMS]:
        @wraps(stages)
        def method(*args: Any, **kwargs: Any) -> HRMS:
            return in_memory(stages(*args, **kwargs))

        method.stages, method.reach = stages, reach
        stages.__qualname__ += ".stages"  # where pickle finds it
        return method

    return decorate
