"""What an output was made of, and how, as a JSON file beside it."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clippan_lib import __version__
from clippan_lib.data.pair.sources import files_read
from clippan_lib.errors import OutputError
from clippan_lib.files import file_digest, file_state, library_digest, write_json
from clippan_lib.sharpening.job import Job
from clippan_lib.sharpening.output import Driver, record_of

Inputs = list[dict[str, Any]]


def inputs_of(job: Job) -> Inputs:
    """MS and PAN, each with size and SHA-256 of all files that GDAL reads with it; all of them are read.

    Returns: one dict per image; size and digest of what is no file of the system's are None.
    """
    return [
        {"image": name, "path": given, "files": [_file(part) for part in files_read(path)]}
        for name, given, path in zip(("ms", "pan"), job.given, job.files, strict=True)
    ]


def _file(name: str) -> dict[str, Any]:
    state = file_state(name)
    try:
        digest = file_digest(Path(name))
    except OSError:
        digest = None
    return {"path": name, "bytes": state and state[0], "sha256": digest}


def write_record(out: Path, job: Job, inputs: Inputs, driver: Driver, command: str | None) -> None:
    """Write NAME.clippan.json beside NAME.tif, at once or not at all.

    Args:
        out: the output, which is there.
        inputs: from `inputs_of`.
        command: the command line; None where there was none.
    Raises: OutputError if it cannot be written.
    """
    optics, sensor = job.optics, job.sensor
    found = optics.found if optics else None
    content = {
        "output": out.name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "version": __version__,
        "library_sha256": library_digest(),
        "method": job.title,
        "sensor": sensor and asdict(sensor),
        "gains": optics
        and {
            "gnyq": optics.gnyq,
            "source": "measured" if optics.measured else "table",
            "r2": found and found.r2,
        },
        "refine": job.refinement and job.refinement.record,
        "shift": {"left": job.placed.shift_left, "applied": job.placed.shift},
        "remarks": job.remarks,
        "inputs": inputs,
        "bands": [
            {"number": band.number, "name": name, "description": band.description}
            for band, name in zip(job.pair.carried.bands, job.pair.band_names, strict=True)
        ],
        "rows": job.size[0],
        "columns": job.size[1],
        "dtype": job.dtype,
        "driver": driver,
    }
    path = record_of(out)
    try:
        write_json(path, content)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}), but {out.name} is whole; make room on its disk"
        ) from error
