"""The shape of the package: data flows down, nothing imports from below, no file grows too long."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "clippan_lib"
# From top to bottom, as in CONTRIBUTING.md: a module imports from its own row and from those above it. Packages of
# one row do not know of each other.
ORDER = [
    {"errors"},
    {"files", "sensors", "targets"},
    {"shapes"},
    {"mtf"},
    {"optics"},
    {"data"},
    {"assets"},
    {"fusion", "clip", "metrics"},
    {"losses"},
    {"training"},
    {"evaluation"},
    {"figures"},
    {"audit"},
    {"runs"},
    {"explore", "campaign", "sharpening"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LONGEST = 350  # lines of a file


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """The modules of the package that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & MODULES.keys()) or {node.module}
    return {each for each in found if each in MODULES and each != name}


def room(name: str) -> str:
    return (name.split(".") + [""])[1]


def rank(name: str) -> int:
    return next(number for number, rooms in enumerate(ORDER) if room(name) in rooms)


def test_every_room_of_the_package_has_its_place_in_the_order():
    assert {room(name) for name in MODULES} - {""} == set().union(*ORDER)


@pytest.mark.parametrize("name", [name for name in MODULES if room(name)])
def test_a_module_imports_nothing_from_below(name):
    for other in imports(name):
        if not room(other):  # the package itself: its version
            continue
        assert room(other) == room(name) or rank(other) < rank(name), f"{name} imports {other}"


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of a graph, [] if there is none."""
    done: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return trail[trail.index(node) :] + [node]
        if node in done:
            return []
        for other in sorted(graph[node]):
            if found := visit(other, [*trail, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def test_no_module_imports_itself_by_way_of_others():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert cycle({name: imports(name) for name in MODULES}) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_file_is_short_enough_to_be_read(name):
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines < LONGEST, f"{name} has {lines} lines"
