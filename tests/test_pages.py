"""README and docs: links lead somewhere, commands are commands, the first page is short."""

import re
import shlex
from pathlib import Path

import pytest

from clippan_lib import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data_manifests/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "clippan_lib/assets").glob("*.md")),
]
page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> list[str]:
    """The lines of its shell blocks, without remarks."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


@page
def test_every_link_leads_to_a_file_and_a_heading(path):
    for target in re.findall(r"\]\((?!https?:)([^()\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), target


@page
def test_every_command_is_one(path):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for line in commands(path.read_text(encoding="utf-8")):
        words = shlex.split(line)
        if words[0] == "clippan":
            given = cli.parser().parse_args(words[1:])
            files = [*vars(given).get("manifests", []), vars(given).get("manifest", ROOT)]
            assert all((ROOT / file).exists() for file in files), line
        if words[0] == "make":
            assert words[1] in targets, line


def test_the_first_page_is_short_and_its_own_scene_comes_early():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 135
    assert next(n for n, line in enumerate(lines) if line.startswith("clippan sharpen")) < 45
    assert next(n for n, line in enumerate(lines) if line.startswith("![")) < 10
