"""An executed notebook as one HTML file that needs no network: what nbconvert would load is left out or written in."""

import re
from pathlib import Path

import nbformat
from jinja2 import PackageLoader, pass_context
from jinja2.runtime import Context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from clippan_lib.figures.formulas import mathml_or_text
from clippan_lib.files import write_text

_WIDGET = "application/vnd.jupyter.widget-view+json"
_LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb")


class _Renderer(IPythonRenderer):
    """Markdown with its formulas as MathML."""

    def inline_math(self, body: str) -> str:
        return mathml_or_text(body)

    def block_math(self, body: str) -> str:
        return mathml_or_text(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml_or_text(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


class _Exporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        attachments = context.get("cell", {}).get("attachments", {})
        return MarkdownWithMath(_Renderer(escape=False, attachments=attachments)).render(source)


def write_html(notebook: Path, folder: Path | None = None) -> Path:
    """Write an executed notebook as HTML, beside itself or into another folder.

    Widgets are dead there, so the still image that goes with each is shown; links between numbered notebooks lead to
    their pages.

    Args:
        notebook: the file.
        folder: where the page goes, if not beside it.
    Returns: the page's file.
    """
    shown = nbformat.read(notebook, 4)
    shown.metadata.pop("widgets", None)
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(r"](\1.html", cell.source)
        for output in cell.get("outputs", ()):
            _keep_still(output)
    exporter = _Exporter(
        extra_loaders=[PackageLoader("clippan_lib", "assets")], template_file="notebook.html"
    )
    page, _ = exporter.from_notebook_node(shown)
    path = (folder or notebook.parent) / f"{notebook.stem}.html"
    write_text(path, page)
    return path


def _keep_still(output: NotebookNode) -> None:
    if any(kind.startswith("image/") for kind in output.get("data", {})):
        output.data.pop(_WIDGET, None)
