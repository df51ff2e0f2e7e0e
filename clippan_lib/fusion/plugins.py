"""Methods of the user's own, from a file or an installed package.

Each is a class of networks, or a function (lrms, pan) → hrms. Their code is run only where the user asks for it: a file
that is named with --plugin, or in `RunConfig.plugin`, and a package that is installed with an entry point of the group
"clippan.methods". A record of a run never runs anything.
"""

import importlib.util
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from clippan_lib.errors import Refusal
from clippan_lib.files import file_digest
from clippan_lib.fusion.classical.stages import Stages
from clippan_lib.fusion.registry import CLASSICAL, NETWORKS, ClassicalMethod, Method, build_network
from clippan_lib.fusion.stack import STACK
from clippan_lib.mtf import Border
from clippan_lib.shapes import HRMS, LRMS, PAN

GROUP = "clippan.methods"
_TAKEN = (STACK, "auto", "lrms", "pan", "gt")  # words that stand for something else where a method may stand
Defined = TypeVar("Defined", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Source:
    """Where an own method is from: a file and its digest, a package and its version, or the user's session."""

    place: str = "this session"
    state: str = ""


_OWN: dict[str, _Source] = {}
_source = _Source()  # of what is being registered


@dataclass(frozen=True)
class OwnFunction:
    """A function of the user's own, as the registry calls classical methods; what it gives is checked at each call.

    Args:
        name: by which it was registered.
        function: (lrms, pan) → hrms. It may say how far a pixel of LRMS reaches, as attribute `reach`, for scenes that
            are fused tile by tile.
    """

    name: str
    function: Method

    def __call__(self, lrms: LRMS, pan: PAN, ratio: int, border: Border = "replicate") -> HRMS:
        """The fused image.

        Args:
            lrms, pan: the pair; the function gets copies, which it may change.
            ratio, border: as all methods of the registry have them; the function has its own way with both.
        Raises: ValueError on anything but a finite image of PAN's size with the bands and the type of `lrms`.
        """
        hrms = self.function(lrms.clone(), pan.clone())
        _refuse_output(self.name, hrms, lrms, pan)
        if not hrms.isfinite().all():
            raise ValueError(
                f"own method {self.name!r} returned {int((~hrms.isfinite()).sum())} values that are NaN or infinite"
            )
        return hrms

    def stages(self, lrms: LRMS, pan: PAN, ratio: int) -> Stages:
        """The function as a method that asks nothing of the scene."""
        yield from ()
        return self(lrms, pan, ratio)

    def reach(self, ratio: int) -> int | None:
        """LRMS px of apron that a tile needs; None if the function does not say."""
        return getattr(self.function, "reach", None)


def _refuse_output(name: str, hrms: object, lrms: Tensor, pan: Tensor) -> None:
    if not isinstance(hrms, Tensor):
        raise ValueError(f"own method {name!r} returned a {type(hrms).__name__}; give a tensor")
    wanted = (*lrms.shape[:2], *pan.shape[2:])
    if tuple(hrms.shape) != wanted:
        raise ValueError(f"own method {name!r} returned shape {tuple(hrms.shape)}; give {wanted}")
    if hrms.dtype != lrms.dtype:
        raise ValueError(f"own method {name!r} returned {hrms.dtype}; give {lrms.dtype}, as lrms has")


def register(name: str) -> Callable[[Defined], Defined]:
    """Enter a method into the registry; a decorator.

    Args:
        name: by which commands, notebooks and tables call it.
    Returns: what takes a class of networks, made as `Class(bands, ratio)` and called as (lrms, pan), or a function
        (lrms, pan) → hrms, and gives it back.
    Raises: Refusal on a name that is taken or is no word, and on anything else than these two.

    >>> @register("doubled")
    ... def doubled(lrms, pan):
    ...     return torch.nn.functional.interpolate(lrms, pan.shape[-2:])
    >>> CLASSICAL["doubled"].family
    'own'
    >>> forget("doubled")
    """

    def add(method: Defined) -> Defined:
        _refuse_name(name)
        if not isinstance(method, type):
            CLASSICAL[name] = ClassicalMethod(name, name, "own", OwnFunction(name, method))
        elif issubclass(method, nn.Module):
            NETWORKS[name] = method
        else:
            raise Refusal(f"own method {name!r}: class {method.__name__} is no torch.nn.Module")
        _OWN[name] = _source
        return method

    return add


def forget(*names: str) -> None:
    """Take own methods out of the registry again."""
    for name in names:
        del _OWN[name]
        NETWORKS.pop(name, None)
        CLASSICAL.pop(name, None)


def _refuse_name(name: str) -> None:
    if not name.isidentifier():
        raise Refusal(
            f"own method {name!r}: a name is of letters, digits and underscores, as files are called by it"
        )
    titles = {row.title for row in CLASSICAL.values()}
    if name.casefold() in {other.casefold() for other in (*NETWORKS, *CLASSICAL, *titles, *_TAKEN)}:
        where = f", by {_OWN[name].place}" if name in _OWN else ""
        raise Refusal(f"own method {name!r}: the name is taken{where}; choose another")


@contextmanager
def _from(source: _Source) -> Iterator[None]:
    """What is registered inside is from there; nothing of it stays if it fails."""
    global _source
    known, before, _source = {*_OWN}, _source, source
    try:
        yield
    except BaseException:
        forget(*(_OWN.keys() - known))
        raise
    finally:
        _source = before


def load_plugin(path: str | Path) -> tuple[str, ...]:
    """Run a file that registers methods; once in a process, as long as the file stays as it is.

    Args:
        path: the file, Python.
    Returns: the names that it registered.
    Raises: Refusal if it is not there, stops with an error, or registers nothing.
    """
    file = Path(path).resolve()
    if file.suffix != ".py" or not file.is_file():
        raise Refusal(f"plugin {path}: no such file of Python (.py)")
    source = _Source(str(file), file_digest(file))
    if not (names := _names_of(source)):
        forget(*(name for name, other in _OWN.items() if other.place == source.place))
        _run(file, source)
        names = _names_of(source)
    if not names:
        raise Refusal(
            f"plugin {path} registers no method: put @register(NAME), of clippan_lib.fusion, before one"
        )
    return names


def _names_of(source: _Source) -> tuple[str, ...]:
    return tuple(name for name, other in _OWN.items() if other == source)


def _run(file: Path, source: _Source) -> None:
    spec = importlib.util.spec_from_file_location(f"clippan_plugin_{file.stem}", file)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pickle look for what it defines
    try:
        with _from(source):
            spec.loader.exec_module(module)
    except Refusal as error:
        raise Refusal(f"plugin {file}: {error}") from error
    except (Exception, SystemExit) as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
        ]
        where = f", line {lines[-1]}" if lines else ""
        raise Refusal(f"plugin {file}{where}: {type(error).__name__}: {error}") from error


@cache
def load_installed() -> None:
    """Enter the methods of installed packages, by the names of their entry points; one that fails is warned of."""
    for point in entry_points(group=GROUP):
        package = point.dist
        source = _Source(package.name if package else point.value, package.version if package else "")
        try:
            with _from(source):
                register(point.name)(point.load())
        except Exception as error:  # somebody else's code, which not every command needs
            warnings.warn(f"method {point.name!r} of {source.place} is left out: {error}", stacklevel=2)


def own_methods(plugin: str | None = None) -> dict[str, str]:
    """Names of the methods of installed packages and of a file, with the version or digest that they are from.

    Args:
        plugin: the file, already loaded; None for those of packages alone.
    """
    files = {source.place for source in _OWN.values() if source.place.endswith(".py")} - {plugin}
    return {name: source.state for name, source in _OWN.items() if source.state and source.place not in files}


def state_of(name: str) -> str | None:
    """The digest or version that an own method is from; None of a method of the library."""
    return _OWN[name].state if name in _OWN else None


def try_out(names: Collection[str], bands: int, ratio: int, side: int) -> None:
    """Build and call own methods once, on noise, so that what does not fit is refused before anything runs.

    Args:
        names: as they were registered.
        bands, ratio: of the images that they will see.
        side: of the LRMS, px.
    Raises: Refusal naming the method and where it is from.
    """
    generator = torch.Generator().manual_seed(0)
    lrms = torch.rand(1, bands, side, side, generator=generator)
    pan = torch.rand(1, 1, side * ratio, side * ratio, generator=generator)
    for name in names:
        try:
            if name in NETWORKS:
                with torch.no_grad():
                    _refuse_output(name, build_network(name, bands, ratio).eval()(lrms, pan), lrms, pan)
            else:
                CLASSICAL[name].fuse(lrms, pan, ratio)
        except Exception as error:
            what = "" if isinstance(error, ValueError) else f"own method {name!r}: {type(error).__name__}: "
            raise Refusal(
                f"plugin {_OWN[name].place}: {what}{error} (tried with {bands} bands, ratio {ratio}, lrms "
                f"{tuple(lrms.shape)} and pan {tuple(pan.shape)})"
            ) from error
