"""Values of options, read from the command line."""

import argparse
from pathlib import Path


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: give 1 or more")
    return number


def shift(text: str) -> tuple[float, float]:
    try:
        rows, columns = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give rows and columns in PAN px, such as -2.4,1") from None
    if not abs(rows) + abs(columns) < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: is no shift of a scene")
    return rows, columns


def nodata(text: str) -> float | str:
    try:
        return text if text == "none" else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give a number, or none") from None


def bands(text: str) -> list[int] | list[str]:
    names = [name.strip() for name in text.split(",")]
    numbers = [int(name) for name in names if name.isdecimal()]
    if "" in names or 0 < len(numbers) < len(names):
        raise argparse.ArgumentTypeError(
            f"{text}: give numbers from 1, such as 3,2,1, or names, such as red,green,blue"
        )
    return numbers or names


def plugin(parser: argparse.ArgumentParser) -> None:
    """The option that names a file of own methods."""
    parser.add_argument(
        "--plugin",
        type=Path,
        metavar="FILE.py",
        help="a file of your own that registers methods (docs/own_method.md); its code is run, so name only what you "
        "trust. Methods of installed packages (entry points clippan.methods) need no option (default: none)",
    )
