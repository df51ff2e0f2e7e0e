"""The package's files agree: pyproject.toml, environment.yml, constraints.txt and what the code imports."""

import ast
import copy
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"pytorch": "torch", "pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
IMPORT_NAMES = {"yaml": "pyyaml", "sklearn": "scikit-learn", "open_clip": "open-clip-torch", "PIL": "pillow"}
# Used where a user has it, and never needed.
OPTIONAL = {"mamba_ssm"}
# Tools that are run, or imported by others (jinja2 by the tables of pandas), and never by us.
COMMANDS = {"ipykernel", "jupyterlab", "torchvision", "ruff", "mypy", "pytest-timeout", "pytest-xdist"}
COMMANDS |= {"nbval", "beartype", "jinja2"}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def wanted(project: dict) -> dict[str, str]:
    """Name to version bounds, of the package, its tests and its documentation."""
    texts = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    return {canonicalize_name(item.name): str(item.specifier) for item in map(Requirement, texts)}


def offered(environment: dict) -> dict[str, str]:
    """The same for environment.yml, its pip part included."""
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    pip = [text for item in environment["dependencies"] if isinstance(item, dict) for text in item["pip"]]
    found = {}
    for text in [*conda, *(text for text in pip if not text.startswith("-"))]:
        item = Requirement(text)
        found[canonicalize_name(CONDA_NAMES.get(item.name, item.name))] = str(item.specifier)
    return found


def disagreements(project: dict, environment: dict) -> list[str]:
    want, have = wanted(project), offered(environment)
    assert have.pop("python") == project["requires-python"]
    assert have.pop("pip") == ""
    return sorted(
        f"{name}: pyproject {want.get(name)}, environment {have.get(name)}"
        for name in want.keys() | have.keys()
        if want.get(name) != have.get(name)
    )


def imports(source: str) -> set[str]:
    """Top-level names a Python text imports, except its own package's."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def sources() -> Iterator[tuple[Path, str]]:
    for folder in ("clippan_lib", "docs", "tests", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, path.read_text()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        yield path, "\n".join(re.sub(r"(?m)^\s*[%!].*$", "", cell) for cell in cells)


def test_conda_and_pip_install_the_same_packages():
    assert disagreements(project(), environment()) == []


@pytest.mark.parametrize(
    "plant",
    [
        lambda packages: packages.remove("scipy >=1.13"),
        lambda packages: packages.append("dask >=2024.1"),
        lambda packages: packages.__setitem__(packages.index("numpy >=2.0"), "numpy >=1.0"),
    ],
    ids=["a package is missing", "a package is extra", "a bound differs"],
)
def test_a_planted_difference_is_found(plant):
    planted = copy.deepcopy(environment())
    plant(planted["dependencies"])
    assert len(disagreements(project(), planted)) == 1


def test_binder_installs_what_the_package_needs_and_one_python_that_it_supports():
    binder = yaml.safe_load((ROOT / ".binder/environment.yml").read_text())
    python = re.fullmatch(r"python =(3\.\d+)", binder["dependencies"].pop(0))  # repo2docker reads this form
    assert SpecifierSet(project()["requires-python"]).contains(python[1])
    have = offered(binder)
    assert have.pop("pip") == ""
    assert have == {
        canonicalize_name(item.name): str(item.specifier)
        for item in map(Requirement, project()["dependencies"])
    }


def test_binder_installs_the_package_itself_at_last():
    script = ROOT / ".binder/postBuild"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert "pip install --no-cache-dir --no-deps --editable ." in script.read_text()
    for pattern in re.findall(r"\S+\.ipynb", script.read_text()):
        assert list(ROOT.glob(pattern)), pattern


def test_a_devcontainer_has_a_supported_python_and_calls_the_makefile():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    version = re.fullmatch(r"python:(3\.\d+)(-\w+)?", container["image"])[1]
    assert SpecifierSet(project()["requires-python"]).contains(version)
    make, target = container["postCreateCommand"].split()
    assert make == "make" and re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
    assert "/.venv/bin:" in container["remoteEnv"]["PATH"]


def test_every_import_is_declared():
    declared = wanted(project())
    ours = {"clippan_lib"} | {
        path.stem for folder in ("docs", "tests", "benchmarks") for path in (ROOT / folder).glob("*.py")
    }
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, source in sources()
        for name in imports(source) - sys.stdlib_module_names - ours - OPTIONAL
        if canonicalize_name(IMPORT_NAMES.get(name, name)) not in declared
    }
    assert missing == set()


def test_every_declared_package_is_used():
    used = {IMPORT_NAMES.get(name, name) for _, source in sources() for name in imports(source)}
    assert set(wanted(project())) - {canonicalize_name(name) for name in used} - COMMANDS == set()


def test_constraints_pin_every_declared_package_within_its_bounds():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for name, bounds in wanted(project()).items():
        assert SpecifierSet(bounds).contains(pins[name]), name


def test_no_file_names_an_index():
    names = ["pyproject.toml", "environment.yml", "constraints.txt", "Makefile", ".ci/run"]
    names += [".binder/environment.yml", ".binder/postBuild", ".devcontainer/devcontainer.json"]
    for name in names:
        assert not re.search(r"https?://|index-url|find-links", (ROOT / name).read_text()), name


WITHOUT_UNIX = """
import sys
sys.modules |= dict.fromkeys(["fcntl", "grp", "pwd", "resource", "termios"])
from importlib import import_module
from pkgutil import walk_packages
import clippan_lib
for module in walk_packages(clippan_lib.__path__, "clippan_lib."):
    import_module(module.name)
"""


def test_the_library_is_imported_without_the_modules_that_only_unix_has():
    done = subprocess.run([sys.executable, "-c", WITHOUT_UNIX], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
