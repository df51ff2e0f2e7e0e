"""Sharpen a whole scene, tile by tile: memory is that of a few tiles, and a stopped job goes on where it was."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial, reduce
from pathlib import Path
from typing import Any

from clippan_lib.fusion.classical.stages import Tally
from clippan_lib.shapes import Progress
from clippan_lib.sharpening.job import Job
from clippan_lib.sharpening.output import Driver, SceneTile, target_of, write_scene
from clippan_lib.sharpening.parts import Parts
from clippan_lib.sharpening.record import inputs_of, write_record
from clippan_lib.sharpening.tiles import Fused, Tile, TileFuser, cut

# What a method asked of the whole scene, stage by stage
Answers = tuple[tuple[Tally, ...], ...]
# Calls a function for each tile, side by side; results come in the order of the tiles
Each = Callable[[Callable[[Tile], Any], Sequence[Tile]], Iterator[Any]]

THREADS = 3  # one reads, one computes, one writes


def sharpen(
    job: Job,
    out: str | Path,
    scheduler: str | None = None,
    progress: Progress | None = None,
    *,
    driver: Driver = "GTiff",
    command: str | None = None,
) -> None:
    """Fuse a scene into a GeoTIFF, which appears once it is complete, and then NAME.clippan.json beside it.

    Finished tiles are kept in `.NAME.tiles` beside it, as large as the output uncompressed; after a stop or an
    error the same job goes on from them. Reading, computing and writing overlap.

    Args:
        job: from `plan_job`.
        out: the file; one that is there is replaced in the end.
        scheduler: address of a Dask scheduler, whose workers then fuse the tiles; they must see the files, and
            this folder, under the same paths.
        progress: called with (what is done, tiles done, tiles in all, {}).
        driver: as for `write_scene`.
        command: the command line, for the record of how the output was made.
    Raises: OutputError if the output cannot be written; DataError for files that turn out to be corrupt.
    """
    # the file that a COG is copied from is not compressed, and overviews make it a third larger
    pair, parts = job.pair, Parts(target_of(out), job, 7 / 3 if driver == "COG" else 1.0)
    rows, columns = job.size
    with (
        parts.opened(),
        ThreadPoolExecutor(1) as beside,
        _threads() if scheduler is None else _cluster(scheduler) as each,
    ):
        inputs = beside.submit(inputs_of, job)
        write_scene(
            parts.out,
            _fused(job, parts, each, progress or _unseen),
            height=rows,
            width=columns,
            bands=pair.band_names,
            dtype=job.dtype,
            nodata=pair.nodata,
            crs=pair.crs,
            transform=pair.transform,
            tags=job.tags,
            carried=pair.carried,
            driver=driver,
            progress=progress,
        )
        write_record(parts.out, job, inputs.result(), driver, command)


def _unseen(*_: object) -> None:
    """Progress that nobody watches."""


def _fused(job: Job, parts: Parts, each: Each, progress: Progress) -> Iterator[SceneTile]:
    """The tiles in their order, each as soon as it is there."""
    tiles = cut(job.pair, job.side)
    left = [tile for tile in tiles if not parts.has(tile)]
    fusing = _passes(job, parts, tiles, left, each, progress)
    waiting = {parts.path(tile) for tile in left}
    for tile in tiles:
        if parts.path(tile) in waiting:
            next(fusing)
        yield parts.load(tile)


def _passes(
    job: Job, parts: Parts, tiles: Sequence[Tile], left: Sequence[Tile], each: Each, progress: Progress
) -> Iterator[None]:
    """Pass over all tiles for each of the method's questions, then over those left; yields as each is fused."""
    answers: Answers = ()
    while left:
        visit = partial(_visit, job.fuser, parts, answers)
        # one tile tells whether there is another question
        (first,) = each(visit, left[:1])
        if first is None:
            yield
            yield from _counted(
                each(visit, left[1:]), "fusing", len(tiles), len(tiles) - len(left) + 1, progress
            )
            return
        others = [tile for tile in tiles if tile is not left[0]]
        found = _counted(each(visit, others), f"statistics {len(answers) + 1}", len(tiles), 1, progress)
        answers += (reduce(_merged, found, first),)


def _counted(found: Iterator[Any], label: str, whole: int, done: int, progress: Progress) -> Iterator[Any]:
    progress(label, done, whole, {})
    for number, item in enumerate(found, done + 1):
        progress(label, number, whole, {})
        yield item


def _merged(one: tuple[Tally, ...], other: tuple[Tally, ...]) -> tuple[Tally, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _visit(fuser: TileFuser, parts: Parts, answers: Answers, tile: Tile) -> tuple[Tally, ...] | None:
    """What a tile adds to the next answers; None once it is fused and kept."""
    outcome = fuser.visit(tile, answers)
    if not isinstance(outcome, Fused):
        return outcome
    parts.save(tile, outcome)
    return None


@contextmanager
def _threads() -> Iterator[Each]:
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _cluster(address: str) -> Iterator[Each]:
    from distributed import Client  # half a second, for the few who have a cluster

    with Client(address) as client:

        def each(function: Callable[[Tile], Any], tiles: Sequence[Tile]) -> Iterator[Any]:
            sent = client.scatter(function, broadcast=True, hash=False)
            futures = client.map(_call, tiles, function=sent, pure=False)
            return (future.result() for future in futures)

        yield each


def _call(tile: Tile, function: Callable[[Tile], Any]) -> Any:
    return function(tile)
