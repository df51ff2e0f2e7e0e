"""Parsers of the subcommands: a description, the names that options take, and examples."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import Any

WIDTH = 80  # columns of a help text

Lists = Callable[[], Mapping[str, Sequence[str]]]


class CommandParser(argparse.ArgumentParser):
    """A parser whose help ends with lists of names and with examples.

    Args:
        lists: gives lists of names by heading; called when the help is shown, since the registries take seconds to
            import.
        examples: command lines.
        description: one paragraph, which is wrapped here.
        options: further arguments of `argparse.ArgumentParser`.
    """

    def __init__(
        self, *, lists: Lists = dict, examples: Sequence[str] = (), description: str = "", **options: Any
    ) -> None:
        super().__init__(
            description=fill(description, WIDTH),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )
        self.lists = lists
        self.examples = tuple(examples)

    def format_help(self) -> str:
        parts = [f"{heading}:\n{_indented(', '.join(names))}" for heading, names in self.lists().items()]
        if self.examples:
            parts.append("examples:\n" + "\n".join(f"  {line}" for line in self.examples))
        self.epilog = "\n\n".join(parts)
        return super().format_help()


def _indented(text: str) -> str:
    return fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def methods_and_sensors() -> dict[str, list[str]]:
    """What --method, --methods and --sensor take."""
    from clippan_lib.fusion import CLASSICAL, STACK  # torch: seconds to import
    from clippan_lib.fusion.registry import BANDWISE
    from clippan_lib.sensors import SENSORS

    needing = [row.name for row in CLASSICAL.values() if "gnyq_pan" in row.needs]
    return {
        "methods": [*CLASSICAL, BANDWISE, STACK],
        "methods that need --sensor": needing,
        "sensors": [*SENSORS],
    }


def networks_and_presets() -> dict[str, list[str]]:
    """What --network and --preset take."""
    from clippan_lib.fusion import NETWORKS  # torch: seconds to import
    from clippan_lib.training.presets import PRESETS

    return {"networks": [*NETWORKS], "presets": [*PRESETS]}


def sensors() -> dict[str, list[str]]:
    """What --sensor takes."""
    from clippan_lib.sensors import SENSORS

    return {"sensors": [*SENSORS]}
