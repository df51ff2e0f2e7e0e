"""What each subcommand of `clippan` does: a module each, imported only when it is called.

Importing all of the package takes seconds, which a command that needs little of it should not.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clippan_lib.sensors import Sensor, get_sensor

if TYPE_CHECKING:
    from clippan_lib.data.pair.scene import Opening  # seconds to import


def stop(status: int, reason: object) -> int:
    """Say why a command ends, and give its exit status."""
    print(f"clippan: {reason}", file=sys.stderr)
    return status


def sensor_of(given: str | None) -> Sensor | None:
    """What --sensor names: a sensor of the package, or a YAML file of one's own.

    Raises: ManifestError or another ValueError naming what is wrong.
    """
    if given is None or not given.endswith((".yaml", ".yml")):
        return get_sensor(given) if given else None
    from clippan_lib.data.manifest import load_sensor  # seconds to import

    return load_sensor(Path(given))


def opening_of(options: argparse.Namespace) -> "Opening":
    """What the options say of the two files."""
    return {"bands": options.bands, "nodata": options.nodata, "georeference": options.georeference}
