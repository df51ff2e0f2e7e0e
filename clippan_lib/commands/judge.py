"""clippan judge."""

import argparse
import sys

from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.commands import stop
from clippan_lib.errors import MissingStage
from clippan_lib.evaluation.judgement import GATES, Gate, judge
from clippan_lib.runs.devices import find_device
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.progress import bars


def act(options: argparse.Namespace) -> int:
    try:
        file = RunFolder(options.run).supervisor()
        if not file.is_file():
            raise MissingStage(f"{file}: no such file; give the folder of a run whose Stage I is done")
        supervisor = Supervisor.load(file).to(find_device(options.device))
        gates = judge(
            supervisor,
            options.guidance == "dense",
            count=options.deliveries,
            progress=bars(sys.stderr, "deliveries"),
        )
    except (ValueError, MissingStage) as error:
        return stop(2, error)
    print("gate,passed,mean,low,high,random_weights,above_them,above_them_low,what")
    for gate in gates:
        print(_row(gate))
    return 0


def _row(gate: Gate) -> str:
    numbers = (gate.mean, gate.low, gate.high, gate.control, *gate.above)
    name = f'"{gate.name}"' if "," in gate.name else gate.name
    return ",".join(
        [name, str(gate.passed).lower(), *(f"{number:.4g}" for number in numbers), f'"{GATES[gate.name]}"']
    )
