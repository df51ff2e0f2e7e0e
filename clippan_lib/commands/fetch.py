"""clippan fetch."""

import argparse
import sys
from functools import partial

from clippan_lib.commands import stop
from clippan_lib.data import load_manifest
from clippan_lib.data.fetch import fetch
from clippan_lib.runs.progress import bars


def act(options: argparse.Namespace) -> int:
    try:
        manifest = load_manifest(options.manifest)
        fetched = fetch(manifest, options.data, partial(print, file=sys.stderr), bars(sys.stderr, "B"))
    except ValueError as error:
        return stop(2, error)
    for path in fetched.downloaded + fetched.present:
        print(options.data / path)
    return stop(1, fetched.advice) if fetched.advice else 0
