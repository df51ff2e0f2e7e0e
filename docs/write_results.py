"""Write the tables of docs/results.md anew from docs/results/NAME/{campaign.json,scores.csv}.

    python docs/write_results.py            write
    python docs/write_results.py --check    exit 1 if the file would change

Only what stands between `<!-- tables: NAME -->` and `<!-- end -->` is touched.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from clippan_lib.campaign.record import load
from clippan_lib.campaign.tables import as_markdown
from clippan_lib.files import write_text

DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- tables: ", "<!-- end -->"
_BLOCK = re.compile(rf"{BEGIN}(?P<name>[^\n]*?) -->((?!{BEGIN}).)*?{END}", re.S)


def renewed(text: str, results: Path) -> str:
    """The text with every block written from its campaign.

    Args:
        text: of docs/results.md.
        results: the folder with a folder per NAME.
    Raises: ValueError on an unknown NAME, a block that does not end, or files that are not a campaign's.
    """
    blocks = len(_BLOCK.findall(text))
    if not blocks == text.count(BEGIN) == text.count(END):
        raise ValueError(
            f"{BEGIN}NAME --> stands {text.count(BEGIN)} times, {END} {text.count(END)} times: pair them"
        )
    return _BLOCK.sub(lambda block: _block(block["name"], results), text)


def _block(name: str, results: Path) -> str:
    known = sorted(path.name for path in results.glob("*/"))
    if name not in known:
        raise ValueError(f"no campaign {name!r} in {results.name}/; there are: {', '.join(known) or 'none'}")
    return f"{BEGIN}{name} -->\n{as_markdown(load(results / name))}\n{END}"


def main(arguments: Sequence[str] | None = None, docs: Path = DOCS) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if something would change"
    )
    check = parser.parse_args(arguments).check
    page = docs / "results.md"
    try:
        old = page.read_text(encoding="utf-8")
        new = renewed(old, docs / "results")
    except (OSError, ValueError) as error:
        print(f"{page.name}: {error}", file=sys.stderr)
        return 2
    if check and new != old:
        print(f"{page.name} is not what its campaigns say: run python docs/write_results.py", file=sys.stderr)
        return 1
    if new != old:
        write_text(page, new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
