"""Formulas of Markdown as MathML, which browsers draw by themselves: no script, no font, no network."""

import html
import re
from typing import Literal
from xml.etree import ElementTree

from latex2mathml.converter import convert_to_element

# What TeX allows and latex2mathml shows as it is written
_SPELT = {
    r"\\(math\w+)\s+([A-Za-z])": r"\\\1{\2}",  # \mathcal L
    r"\\\|": "‖",
    r"\\arg(?![A-Za-z])": r"\\operatorname{arg}",
}
_NO_FORMULA = ("href", "style", "class", "id")  # attributes that lead out of the formula


def mathml(tex: str, display: Literal["inline", "block"] = "inline") -> str:
    r"""A formula as an element `<math>`.

    Args:
        tex: LaTeX without its dollar signs.
        display: "block" for a formula in its own line.
    Raises: an exception of latex2mathml, which has many, or ValueError on what is no formula.

    >>> mathml("x_1")
    '<math display="inline"><mrow><msub><mi>x</mi><mn>1</mn></msub></mrow></math>'
    """
    for written, known in _SPELT.items():
        tex = re.sub(written, known, tex)
    formula = convert_to_element(tex, display=display)
    formula.attrib.pop("xmlns", None)
    for element in formula.iter():
        # Symbols come as entities; what is text, such as "<" within \text, is escaped again below
        element.text = html.unescape(element.text) if element.text else element.text
        for name in _NO_FORMULA:
            element.attrib.pop(name, None)
    if unknown := re.findall(r"\\\w*", "".join(formula.itertext())):
        raise ValueError(f"{' '.join(unknown)}: no command of a formula")
    return ElementTree.tostring(formula, encoding="unicode")


def mathml_or_text(tex: str, display: Literal["inline", "block"] = "inline") -> str:
    """A formula as MathML; what is none, as in a text of others, stays text between its dollar signs.

    Args: as of `mathml`.
    """
    mark = "$$" if display == "block" else "$"
    try:
        return mathml(tex, display)
    except Exception:  # latex2mathml's have no class in common
        return html.escape(f"{mark}{tex}{mark}", quote=False)
