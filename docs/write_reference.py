"""Write an API reference: a page per public module, made by pdoc from signatures and docstrings.

`make gallery` calls this; the first page of the gallery links to each module. The pages need no network.
"""

from collections.abc import Sequence
from importlib import import_module
from inspect import getdoc
from pathlib import Path

from clippan_lib.figures.page import Link

# What notebooks and users call; the rest of the library serves these modules.
PUBLIC = (
    "sensors",
    "data",
    "mtf",
    "optics",
    "fusion",
    "fusion.published",
    "clip",
    "losses",
    "metrics",
    "training",
    "evaluation",
    "runs.run",
    "figures",
    "explore",
    "sharpening",
    "sharpening.dataarrays",
    "shapes",
    "errors",
)
_TEMPLATES = Path(__file__).with_name("reference")


def write_reference(folder: Path, public: Sequence[str] = PUBLIC) -> list[Link]:
    """Write the pages of modules, and of what lies in them.

    Args:
        folder: where to write; it is made if it is not there.
        public: names of modules, below `clippan_lib`.
    Returns: a link to each module, relative to the folder's parent, with the first sentence of its docstring.
    Raises: ModuleNotFoundError without pdoc, which the extra `docs` installs.
    """
    import pdoc  # of the extra `docs`

    names = [f"clippan_lib.{name}" for name in public]
    modules = [import_module(name) for name in names]
    for module in modules:  # those that import their parts when asked for them: pdoc does not ask
        vars(module).update({name: getattr(module, name) for name in getattr(module, "__all__", ())})
    pdoc.render.configure(
        docformat="google", include_undocumented=False, template_directory=_TEMPLATES, show_source=True
    )
    pdoc.pdoc(*names, output_directory=folder)
    return [
        Link(f"{folder.name}/{name.replace('.', '/')}.html", name, note=(getdoc(module) or "").split("\n")[0])
        for name, module in zip(names, modules, strict=True)
    ]
