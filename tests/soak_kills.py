"""Kills at random times, full disks, two processes at once, and memory: parts of `make soak`.

A part gives rows: what was tried, what came out, and what was wrong ("" if nothing).
"""

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasters import grid, save
from scenes import scene
from soak_inputs import network, sharpen
from tiny import tiny_manifest

from clippan_lib.files import read_tensors, tensors_digest

SEQUENCE = 10  # kills of a command before it is let go to its end
PATIENCE = 1800.0  # seconds of a command that nobody kills
SIDES = (2048, 4096, 8192)  # PAN px
SIDE = 384  # PAN px, of a scene that the notebooks' methods can be compared on
PEAK = 2048.0  # MiB, of a scene of any size
# What is kept for a process that goes on
_KEPT = (
    ".out.tif.tiles/*",
    "stage1/training/*",
    "stage2/**/*",
    "unfinished/.*.json",
    "unfinished/metrics.json",
)
# The truth as delivered, as a halved one would need scenes of twice the side
_SHORT = ("--preset", "smoke", "-p", "truth=delivered")
_NOT_RESULTS = ("seconds", "speed")  # what differs from run to run

Row = tuple[str, str, str]


@dataclass(frozen=True)
class Command:
    """Something that can be killed.

    Args:
        prepare: puts what it needs into a folder.
        arguments: of `clippan`, in that folder.
        result: what has to be the same, whatever happened on the way.
        within: share of its time, from its start on, in which a process is killed.
    """

    prepare: Callable[[Path], object]
    arguments: Callable[[Path], list[str]]
    result: Callable[[Path], str]
    within: float = 0.5


def _large_scene(folder: Path, repeats: int = 4) -> None:
    """The small scene so many times to each side: many tiles of 256 px."""
    scene(folder)
    network(folder)
    for name in ("ms.tif", "pan.tif"):
        with rasterio.open(folder / name) as file:
            image, at = file.read(), file.transform
        save(folder / name, np.tile(image, (1, repeats, repeats)).clip(0, 2047), at, nodata=0)


def _pixels_of_output(folder: Path) -> str:
    """Not its bytes: the tags name the folder of the network."""
    with rasterio.open(folder / "out.tif") as file:
        return hashlib.sha256(file.read().tobytes() + file.dataset_mask().tobytes()).hexdigest()


def _numbers_of_run(folder: Path) -> str:
    [run] = (folder / "runs" / "tiny").iterdir()
    networks = {
        str(path.relative_to(run)): tensors_digest(read_tensors(path, "")[0])
        for path in sorted((run / "networks").rglob("*.safetensors"))
    }
    numbers = pd.read_csv(run / "metrics.csv")
    numbers = numbers[~numbers["metric"].isin(_NOT_RESULTS)]
    return json.dumps([networks, hashlib.sha256(numbers.to_csv(index=False).encode()).hexdigest()])


def _numbers_of_campaign(folder: Path) -> str:
    [campaign] = (folder / "runs" / "campaigns").iterdir()
    numbers = pd.read_csv(campaign / "scores.csv").drop(columns=list(_NOT_RESULTS), errors="ignore")
    return numbers.to_csv(index=False)


def _manifest(folder: Path) -> None:
    (folder / "tiny.yaml").write_text(tiny_manifest(size=SIDE))


def _tiled(method: str) -> Callable[[Path], list[str]]:
    return lambda folder: sharpen(folder, "--method", method, "--tile", "256", "--shift=0,0")


KILLED = {
    "sharpen, gsa": Command(_large_scene, _tiled("gsa"), _pixels_of_output),
    "sharpen, network": Command(_large_scene, _tiled("pnn.safetensors"), _pixels_of_output),
    "sharpen --adapt": Command(
        _large_scene,
        lambda folder: sharpen(folder, "--adapt", "smoke", "--sensor", "IKONOS"),
        _pixels_of_output,
    ),
    "run": Command(_manifest, lambda folder: ["run", "tiny.yaml", *_SHORT], _numbers_of_run, 0.25),
    "table": Command(
        _manifest,
        lambda folder: [
            "table",
            "2",
            "tiny.yaml",
            "--seeds",
            "0",
            "--jobs",
            "1",
            *_SHORT,
            "-p",
            "scale=full",
        ],
        _numbers_of_campaign,
        0.25,
    ),
}


def with_kills(name: str, kills: int) -> Iterator[Row]:
    """Kill a command at random times, again and again, then let it go to its end, and compare.

    Args:
        name: of `KILLED`.
        kills: in all.
    """
    command, times = KILLED[name], random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        start = time.monotonic()
        whole, said = _to_its_end(command, _prepared(command, Path(place) / "whole"))
        seconds = time.monotonic() - start
        if said:
            yield "never killed", "failed", said
            return
        done = number = 0
        wrong = ""
        while done < kills and not wrong:  # a command that fails at once would never be killed
            number += 1
            folder = _prepared(command, Path(place) / str(number))
            here = 0
            for _ in range(min(SEQUENCE, kills - done)):
                start = time.monotonic()
                if not _killed(command, folder, times.uniform(0, seconds * command.within)):
                    # it came to its end first: the machine is less busy than it was
                    seconds = time.monotonic() - start
                    break
                here += 1
            done += here
            _damage(folder, times, number)
            result, said = _to_its_end(command, folder)
            wrong = said or ("" if result == whole else "another result")
            yield f"sequence {number}: {here} kills", "failed" if wrong else "the same", wrong


def _damage(folder: Path, chance: random.Random, number: int) -> None:
    """Cut, empty or alter one of the files that the killed process left for the next one, in two of three sequences.

    Not settings.json: without it a folder of results is refused.
    """
    left = [path for pattern in _KEPT for path in sorted(folder.rglob(pattern)) if path.stat().st_size]
    if not left or number % 3 == 0:
        return
    path = chance.choice(left)
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes([bytes(content), bytes(content[: len(content) // 2]), b""][chance.randrange(3)])


def _prepared(command: Command, folder: Path) -> Path:
    folder.mkdir()
    command.prepare(folder)
    return folder


def _start(arguments: Sequence[str], folder: Path, **options) -> subprocess.Popen:
    line = [sys.executable, "-m", "clippan_lib", *arguments]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, cwd=folder, start_new_session=True, text=True, **pipes, **options)


def _killed(command: Command, folder: Path, after: float) -> bool:
    process = _start(command.arguments(folder), folder)
    try:
        process.communicate(timeout=after)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True


def _to_its_end(command: Command, folder: Path) -> tuple[str, str]:
    """Its result, and what was wrong."""
    process = _start(command.arguments(folder), folder)
    said = process.communicate(timeout=PATIENCE)[1]
    if process.returncode or "Traceback" in said:
        return "", f"status {process.returncode}: {said.strip()[-300:]}"
    left = [path.name for path in folder.iterdir() if path.name.startswith(".out")]
    return command.result(folder), f"left {', '.join(left)}" if left else ""


def without_room(shares: Sequence[float] = (0.02, 0.2, 0.4, 0.6, 0.8, 0.95)) -> Iterator[Row]:
    """No file may grow beyond a share of what is needed: refused in a line, an older output stays; then it goes on."""
    command = KILLED["sharpen, gsa"]
    with tempfile.TemporaryDirectory() as place:
        whole, said = _to_its_end(command, folder := _prepared(command, Path(place) / "whole"))
        if said:
            yield "with room", "failed", said
            return
        size = (folder / "out.tif").stat().st_size
        for share in shares:
            folder = _prepared(command, Path(place) / f"{share}")
            (folder / "out.tif").write_text("older")
            limit = int(share * size)
            process = _start(
                command.arguments(folder),
                folder,
                preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
            )
            said = process.communicate(timeout=PATIENCE)[1]
            lines = [line for line in said.splitlines() if line.startswith("clippan: ")]
            wrong = (
                ""
                if process.returncode == 1 and len(lines) == 1
                else f"status {process.returncode}: {said[-300:]}"
            )
            wrong = wrong or (
                "" if (folder / "out.tif").read_text() == "older" else "the older output is gone"
            )
            result, later = _to_its_end(command, folder)
            wrong = wrong or later or ("" if result == whole else "another result")
            yield f"files of at most {limit} bytes", "failed" if wrong else "refused, then the same", wrong


def two_at_once(times: int = 5) -> Iterator[Row]:
    """The same command twice: one output, whole, and the other process says that it is written."""
    command = KILLED["sharpen, gsa"]
    with tempfile.TemporaryDirectory() as place:
        whole, _ = _to_its_end(command, _prepared(command, Path(place) / "whole"))
        for number in range(times):
            folder = _prepared(command, Path(place) / str(number))
            both = [_start(command.arguments(folder), folder) for _ in range(2)]
            said = [process.communicate(timeout=PATIENCE)[1] for process in both]
            states = sorted(process.returncode for process in both)
            wrong = "" if states in ([0, 0], [0, 1]) else f"status {states}"
            if states == [0, 1] and not any("another process is writing it" in text for text in said):
                wrong = f"said {said}"
            if command.result(folder) != whole:
                wrong = "another result"
            yield f"pair {number}", f"status {states}", wrong


def memory(sides: Sequence[int] = SIDES) -> Iterator[Row]:
    """The largest resident memory of a command, by the size of the scene."""
    for side in sides:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            rng = np.random.default_rng(0)
            save(folder / "ms.tif", rng.integers(1, 2048, (4, side // 4, side // 4), np.uint16), grid(4))
            save(folder / "pan.tif", rng.integers(1, 2048, (1, side, side), np.uint16), grid())
            arguments = sharpen(folder, "--method", "gsa", "--shift=0,0")
            process = _start(arguments, folder)
            _, status, used = os.wait4(process.pid, 0)
            peak = used.ru_maxrss / 2**10
            wrong = "" if status == 0 and peak <= PEAK else f"status {status}, {peak:.0f} MiB of {PEAK:.0f}"
            yield f"{side} x {side} px", f"{peak:.0f} MiB", wrong
