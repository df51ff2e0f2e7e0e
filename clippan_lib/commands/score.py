"""clippan score."""

import argparse
import sys
import warnings

from rasterio.errors import NotGeoreferencedWarning

from clippan_lib.commands import opening_of, sensor_of, stop
from clippan_lib.metrics import BETTER
from clippan_lib.sharpening.delivered import score_fused


def act(options: argparse.Namespace) -> int:
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    try:
        scores, areas, remarks = score_fused(
            options.fused,
            options.ms,
            options.pan,
            reference=options.reference,
            sensor=sensor_of(options.sensor),
            **opening_of(options),
            gains=options.gains,
            register=options.register,
            shift=options.shift,
        )
    except ValueError as error:
        return stop(2, error)
    print(*remarks, areas.in_words, sep="\n", file=sys.stderr)
    print("metric,value,better")
    for name, value in scores.items():
        print(f"{name},{value:.6g},{BETTER[name]}")
    return 0
