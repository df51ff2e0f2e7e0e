"""clippan sharpen --adapt."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from clippan_lib.commands import opening_of
from clippan_lib.data.pair.grid import Shift
from clippan_lib.errors import Refusal
from clippan_lib.fusion import STACK
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.folder import PAGE, find_network
from clippan_lib.runs.progress import bars
from clippan_lib.runs.runner import execute
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.adapt import plan_adaptation
from clippan_lib.sharpening.adapted import adapted
from clippan_lib.sharpening.certificate import KEPT, write_certificate
from clippan_lib.sharpening.contest import plan_contest, run_contest

CERTIFICATE = "certificate"


def adapt(options: argparse.Namespace, sensor: Sensor | None, start: Path | str | None, shift: Shift) -> Path:
    """Train on the scene itself.

    Args:
        options: options of `clippan sharpen`.
        sensor: sensor of the scene, if it is known.
        start: what --method says.
        shift: shift by which MS is moved first, PAN px.
    Returns: the network's file.
    Raises: Refusal or another ValueError; RunFailed if a notebook fails.
    """
    if start is not None and not isinstance(start, Path):
        kinds = {BANDWISE: "the network that comes with the package", STACK: "a mean of several methods"}
        kind = kinds.get(start, "a classical method")
        raise Refusal(
            f"--adapt trains a network, and {start} is {kind}: leave --method out, or give a run to begin with"
        )
    plan = plan_adaptation(
        options.ms,
        options.pan,
        options.out,
        sensor=sensor,
        **opening_of(options),
        preset=options.adapt,
        seed=options.seed,
        device=options.device,
        start=start,
        shift=shift,
    )
    execute(plan, sys.stderr)
    print(f"Report: {plan.folder / PAGE}")
    return find_network(plan.folder)


def certify(options: argparse.Namespace, file: Path, shift: Shift) -> Path:
    """Repeat the training one scale down, where MS is the truth, and compare with every method; into the run's folder.

    Args:
        options: options of `clippan sharpen`.
        file: file of the network, in its run's folder.
        shift: shift by which MS is moved first, PAN px.
    Returns: the page.
    Raises: DataError or another ValueError where the scene allows no comparison.
    """
    trained, folder = TrainedNetwork.load(file), file.parents[2] / CERTIFICATE
    contest = plan_contest(
        options.ms,
        options.pan,
        gains=options.gains,
        sensor=trained.sensor,
        shift=shift,
        **opening_of(options),
    )
    ours = adapted(contest, options.out, preset=options.adapt, seed=options.seed, trained=trained)
    contest = replace(contest, entrants=[*contest.entrants, ours])
    folder.mkdir(exist_ok=True)
    rows = run_contest(contest, folder / KEPT, bars(sys.stderr, "methods"))
    return write_certificate(contest, rows, folder)[0]
