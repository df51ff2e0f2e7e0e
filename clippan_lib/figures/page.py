"""The one page that reports, audits and the gallery are printed on: `assets/page.html`, filled with what is given here.

Every text is escaped by the template; none of these fields takes HTML.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import pandas as pd
import PIL.Image
from jinja2 import Environment, StrictUndefined, Template
from matplotlib.figure import Figure


@dataclass(frozen=True)
class PageRow:
    """One row of a table.

    Args:
        cells: its texts.
        kind: "fault", "warning" or "unmeasured", which colour it; "" for a plain row.
        best: positions of the cells in bold.
    """

    cells: Sequence[str]
    kind: str = ""
    best: frozenset[int] = frozenset()


@dataclass(frozen=True)
class PageTable:
    """Rows below a line of names.

    Args:
        columns: names.
        rows: each with a cell per column.
        title, note: stand above.
        names: how many columns name the row; those after them are numbers and set to the right. None: all are texts.
        links: text of a column's name, or of a cell that names a row, to the address of what explains it.
    """

    columns: Sequence[str]
    rows: Sequence[PageRow]
    title: str = ""
    note: str = ""
    names: int | None = None
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """An image with its caption.

    Args:
        source: a path relative to the page, or from `inline`.
        caption: what is seen.
        file: path of the same picture as PDF, "" if there is none.
    """

    source: str
    caption: str
    file: str = ""


@dataclass(frozen=True)
class Link:
    """A line that leads to another file.

    Args:
        href: path relative to the page.
        text: what is clicked.
        file: path of a second file, shown by its name.
        note: follows the link.
    """

    href: str
    text: str
    file: str = ""
    note: str = ""


@dataclass(frozen=True)
class Card:
    """A link with a picture, in a grid of such.

    Args:
        href: path relative to the page.
        text: its title.
        picture: a path relative to the page, or from `inline`.
    """

    href: str
    text: str
    picture: str


@dataclass(frozen=True)
class Section:
    """A part of a page; what is not given is not shown.

    Args:
        heading: above it.
        note: a sentence or two below the heading.
        tables, pictures, links, cards, facts: in this order; `facts` is a list of names and texts.
    """

    heading: str = ""
    note: str = ""
    tables: Sequence[PageTable] = ()
    pictures: Sequence[Picture] = ()
    links: Sequence[Link] = ()
    cards: Sequence[Card] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyNumber:
    """One of the few numbers that a page opens with.

    Args:
        name: what was measured.
        value: with its unit.
        direction: which way is better.
        note: what it is to be compared with.
        href: address of what explains the name, "" if there is none.
    """

    name: str
    value: str
    direction: str
    note: str = ""
    href: str = ""


@dataclass(frozen=True)
class Opening:
    """The first screen of a page.

    Args:
        sentence: the result in words.
        numbers: in their order.
        picture: above them, if there is one.
        warning: why nothing here may be believed, "" if there is no such reason.
    """

    sentence: str
    numbers: Sequence[KeyNumber] = ()
    picture: Picture | None = None
    warning: str = ""


def render(
    title: str,
    sections: Sequence[Section],
    facts: Mapping[str, str] | None = None,
    opening: Opening | None = None,
) -> str:
    """A page as HTML that asks for no other file but those it links to.

    Args:
        title: of the page.
        sections: in their order.
        facts: name to text, a list below the title.
        opening: what is seen first; a list of the contents follows it.
    """
    return _template().render(title=title, sections=sections, facts=facts or {}, opening=opening)


@cache
def _template() -> Template:
    # What a page lacks is to raise, not to leave a gap
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.from_string(
        files("clippan_lib.assets").joinpath("page.html").read_text(encoding="utf-8")
    )


def table_of(
    text: pd.DataFrame,
    placed: pd.DataFrame,
    title: str,
    note: str = "",
    links: Mapping[str, str] | None = None,
) -> PageTable:
    """A table of text with the best of each column in bold.

    Args:
        text: strings, with the names of its rows as index.
        placed: 1 where a cell is in bold, of the same shape, as of `tables.places`.
        title, note, links: of the table.
    """
    names, whole = text.index.nlevels, text.reset_index()
    rows = [
        PageRow(cells, best=frozenset(place for place, rank in enumerate(ranks, names) if rank == 1))
        for cells, ranks in zip(whole.to_numpy().tolist(), placed.to_numpy().tolist(), strict=True)
    ]
    return PageTable([*whole], rows, title, note, names, links or {})


def inline(content: bytes, kind: str) -> str:
    """An image as the source of a `Picture` or a `Card`, inside the page itself.

    Args:
        content: of the file.
        kind: "png" or "jpeg".
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def drawn(figure: Figure, caption: str, colours: int | None = None) -> Picture:
    """A figure inside the page itself.

    Args:
        figure: what is drawn.
        caption: of the picture.
        colours: at most so many, up to 256, for a third of the size; None keeps all.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    if colours:
        image = PIL.Image.open(buffer).convert("RGB").quantize(colours, dither=PIL.Image.Dither.NONE)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
    return Picture(inline(buffer.getvalue(), "png"), caption)
