"""clippan sharpen."""

import argparse
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

from rasterio.errors import NotGeoreferencedWarning

from clippan_lib.commands import opening_of, sensor_of, stop
from clippan_lib.commands.outputs import refuse_output
from clippan_lib.data.pair.grid import Shift
from clippan_lib.errors import ClipWeightsError, OutputError
from clippan_lib.fusion import CLASSICAL, STACK, is_classical
from clippan_lib.fusion.plugins import load_installed, load_plugin
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.runs.devices import find_device
from clippan_lib.runs.limits import refuse_beyond, refuse_seed
from clippan_lib.runs.progress import bars
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening import Job, plan_job, sharpen
from clippan_lib.sharpening.output import comparison_of, target_of

AUTO = "auto"


def act(options: argparse.Namespace) -> int:
    # files without one are served as well, and rasterio would say so at each window
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    try:
        refuse_beyond("--tile", options.tile, 2**16)
        if options.adapt:
            refuse_seed(options.seed)
        _load(options)
        method = _method(options.method)
        refuse_output(options, [Path(options.method)] if isinstance(method, Path) else [])
        sensor = sensor_of(options.sensor)
        job_with = partial(
            plan_job,
            options.ms,
            options.pan,
            sensor=sensor,
            **opening_of(options),
            tile=options.tile,
            device=find_device(options.device),
            gains=options.gains,
            consistent=options.consistent,
            refine=options.refine,
            clip_model=options.clip_model,
            clip_weights=options.clip_weights,
            register=options.register,
            shift=options.shift,
            dtype=options.dtype,
        )
        if options.adapt:
            if method == AUTO:
                raise ValueError(
                    "--adapt trains a network, and --method auto chooses a method; leave one of the two out"
                )
            # whatever it refuses is refused before the training
            placed = job_with(method or "exp").placed
            if placed.units:
                raise ValueError(placed.units)
            from clippan_lib.commands.adapt import adapt  # the notebooks' runner: seconds to import

            try:
                method = adapt(options, sensor, method, placed.shift)
            except RuntimeError as error:  # of a notebook
                return stop(1, error)
        if method == AUTO:
            if options.refine is not None:
                job_with("exp")  # whatever it refuses is refused before methods are compared
            method, job_with = _best(options, sensor, job_with)
        job = job_with(method or "gsa")
    except (ValueError, OutputError, ClipWeightsError) as error:
        return stop(2, error)
    rows, columns = job.size
    print(
        f"{job.title}: {rows} x {columns} px of PAN, {job.pair.n_bands} bands, ratio {job.pair.ratio}",
        file=sys.stderr,
    )
    for remark in job.remarks:
        print(remark, file=sys.stderr)
    try:
        sharpen(
            job,
            options.out,
            options.scheduler,
            bars(sys.stderr, "tiles"),
            driver=options.driver,
            command=options.typed,
        )
    except (ValueError, OutputError) as error:
        return stop(1, error)
    if options.method == AUTO:
        comparison_of(target_of(options.out)).unlink(missing_ok=True)
    print(options.out)
    if options.adapt and isinstance(method, Path):
        _certify(options, method, job.placed.shift)
    return 0


def _certify(options: argparse.Namespace, network: Path, shift: Shift) -> None:
    """The output is there; a scene that allows no certificate takes nothing from it."""
    from clippan_lib.commands.adapt import certify  # the notebooks' runner: seconds to import

    try:
        print(f"Certificate: {certify(options, network, shift)}")
    except (ValueError, OSError) as error:
        print(f"No certificate: {error}", file=sys.stderr)


def _best(
    options: argparse.Namespace, sensor: Sensor | None, job_with: partial[Job]
) -> tuple[str, partial[Job]]:
    """The method that is best one scale down, and how to plan it; scores are kept until the output is there."""
    from clippan_lib.sharpening.contest import plan_contest, run_contest  # pandas: half a second to import
    from clippan_lib.sharpening.verdict import verdict

    if options.consistent:
        raise ValueError(
            "--method auto compares methods with and without consistency; leave --consistent out"
        )
    contest = plan_contest(
        options.ms,
        options.pan,
        sensor=sensor,
        **opening_of(options),
        gains=options.gains,
        register=options.register,
        shift=options.shift,
    )
    one_scale_down = replace(contest, settings=contest.settings[:1])
    scores = comparison_of(target_of(options.out))
    result = verdict(run_contest(one_scale_down, scores, bars(sys.stderr, "methods")))
    print(result.sentence, file=sys.stderr)
    if is_classical(result.best.method):
        return result.best.name, job_with
    steps = int(result.best.consistency.lstrip("+") or 0) if result.best.consistency != "none" else 0
    return result.best.method, partial(job_with, consistent=steps)


def _load(options: argparse.Namespace) -> None:
    """Enter own methods into the registry."""
    load_installed()
    if options.plugin:
        if options.scheduler:
            raise ValueError(
                "--plugin and --scheduler: a cluster does not have the file; leave one of the two out"
            )
        if options.adapt:
            raise ValueError("--plugin and --adapt: a run trains an own network (`clippan run --plugin`)")
        load_plugin(options.plugin)


def _method(given: str | None) -> str | Path | None:
    if given is None or given in (AUTO, BANDWISE, STACK) or is_classical(given):
        return given
    if not Path(given).exists():
        raise ValueError(
            f"--method {given}: no such file or folder, and no classical method; those are {', '.join(CLASSICAL)}, "
            f"{STACK} is a weighted mean of several, {BANDWISE} a network that comes with the package, and {AUTO} the "
            "best of all these on the scene"
        )
    from clippan_lib.runs.folder import find_network  # the settings of a run: half a second to import

    return find_network(given)
