"""The command `clippan`."""

import argparse
import gc
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module

from clippan_lib import __version__
from clippan_lib.commands import run_options, scene_options, stop
from clippan_lib.commands.parsers import CommandParser
from clippan_lib.commands.streams import lasting_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: words of the command line, without the program's name; None takes the process's own.
    Returns: exit status: 0 done, 1 failed or not complete, 2 refused before anything ran, 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with lasting_streams() as out:
        options = parser().parse_args(arguments)
        options.typed = shlex.join(["clippan", *arguments])
        status = _act(options)
    # the scores are nowhere else
    return status or int(bool(out.fault) and options.command in ("score", "judge"))


def _act(options: argparse.Namespace) -> int:
    # read once, by torch's first large tensor: with small pages the system takes a third of a whole scene's time
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # the collector would go through all of torch again and again while it is imported: a tenth of that time
    collecting = gc.isenabled()
    gc.disable()
    try:
        try:
            command = import_module(f"clippan_lib.commands.{options.command}")
        finally:
            if collecting:
                gc.enable()
        return command.act(options)
    except KeyboardInterrupt:
        return stop(130, "interrupted; the same command goes on from here")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, with one parser per subcommand."""
    whole = argparse.ArgumentParser(
        prog="clippan",
        description="Pansharpening: fuses a sharp grey image (PAN) and a blurry colour one (MS) into a sharp colour "
        "image, and trains networks for it with CLIP as the supervisor.",
        epilog="`clippan COMMAND --help` shows the options of a command, the names that they take, and examples.",
    )
    whole.add_argument("--version", action="version", version=f"clippan {__version__}")
    commands = whole.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=CommandParser
    )
    scene_options.add_sharpen(commands)
    scene_options.add_compare(commands)
    scene_options.add_score(commands)
    run_options.add_run(commands)
    run_options.add_table(commands)
    run_options.add_fetch(commands)
    run_options.add_audit(commands)
    run_options.add_judge(commands)
    return whole
