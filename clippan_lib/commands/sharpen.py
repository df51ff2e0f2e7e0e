"""clippan sharpen."""

import argparse
import sys
import warnings
from functools import partial
from pathlib import Path

from rasterio.errors import NotGeoreferencedWarning

from clippan_lib.commands import stop
from clippan_lib.errors import OutputError
from clippan_lib.fusion import CLASSICAL, STACK, is_classical
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.runs.devices import find_device
from clippan_lib.runs.folder import find_network
from clippan_lib.runs.progress import bars
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen


def act(options: argparse.Namespace) -> int:
    # files without one are served as well, and rasterio would say so at each window
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    try:
        method = _method(options.method)
        sensor = options.sensor and get_sensor(options.sensor)
        job_with = partial(
            plan_job,
            options.ms,
            options.pan,
            sensor=sensor,
            bands=options.bands,
            tile=options.tile,
            device=find_device(options.device),
            gains=options.gains,
            consistent=options.consistent,
        )
        if options.adapt:
            job_with(method or "exp")  # whatever it refuses is refused before the training
            from clippan_lib.commands.adapt import adapt  # the notebooks' runner: seconds to import

            try:
                method = adapt(options, sensor, method)
            except RuntimeError as error:  # of a notebook
                return stop(1, error)
        job = job_with(method or "gsa")
    except ValueError as error:
        return stop(2, error)
    rows, columns = job.size
    print(
        f"{job.title}: {rows} x {columns} px of PAN, {job.pair.n_bands} bands, ratio {job.pair.ratio}",
        file=sys.stderr,
    )
    if job.optics:
        print(job.optics.remark, file=sys.stderr)
    if not job.exact:
        print(
            f"Note: this method looks at its whole image; here every tile of {options.tile} px is one, and the "
            "result depends on --tile",
            file=sys.stderr,
        )
    try:
        sharpen(job, options.out, options.scheduler, bars(sys.stderr, "tiles"))
    except (ValueError, OutputError) as error:
        return stop(1, error)
    print(options.out)
    return 0


def _method(given: str | None) -> str | Path | None:
    if given is None or given in (BANDWISE, STACK) or is_classical(given):
        return given
    if not Path(given).exists():
        raise ValueError(
            f"--method {given}: no such file or folder, and no classical method; those are {', '.join(CLASSICAL)}, "
            f"{STACK} is a weighted mean of several, and {BANDWISE} a network that comes with the package"
        )
    return find_network(given)
