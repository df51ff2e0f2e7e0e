"""clippan sharpen --adapt."""

import argparse
import sys
from pathlib import Path

from clippan_lib.errors import Refusal
from clippan_lib.fusion import STACK
from clippan_lib.fusion.registry import BANDWISE
from clippan_lib.runs.folder import PAGE, find_network
from clippan_lib.runs.runner import execute
from clippan_lib.sensors import Sensor
from clippan_lib.sharpening.adapt import plan_adaptation


def adapt(options: argparse.Namespace, sensor: Sensor | None, start: Path | str | None) -> Path:
    """Train on the scene itself.

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
        bands=options.bands,
        preset=options.adapt,
        seed=options.seed,
        device=options.device,
        start=start,
    )
    execute(plan, sys.stderr)
    print(f"Report: {plan.folder / PAGE}")
    return find_network(plan.folder)
