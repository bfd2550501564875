"""The shape of the package: floors, light imports, documented arguments, names that resolve."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import critwin

ROOT = Path(critwin.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

FLOORS = [
    {"errors"},
    {"streams", "levels", "plugins", "_texts", "_images"},
    {"_checks", "records"},
    {"transitions"},
    {"reshaping", "quantities"},
    {"views"},
    {"_clustering", "_curves", "_intervals", "_readings", "_smoothing"}
    | {"estimates", "freshness", "significance", "windows", "comparisons", "certificates"}
    | {"exact_windows", "overview"},
    {"_agglomeration", "_tree_building", "_tree_nodes", "_tree_reading", "trees"},
    {"storage", "tables", "_columns", "_datasets", "_frames"},
    {"theory"},
    {"models", "features"},
    {"experiments"},
    {"runs"},
    {"audits"},
    {"reports"},
    {"cli", "__main__"},
]
"""Lowest first. A module may import its own floor and those below."""

APART = {("models", "features"), ("features", "models")}


def floor_of(name: str) -> int:
    """Number of the floor of a module of the package, e.g. ``theory.mixtures``."""
    for number, floor in enumerate(FLOORS):
        if name.partition(".")[0] in floor:
            return number
    raise AssertionError(f"{name} is on no floor: add it to FLOORS")


def imports_of(file: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it, at run time or for types."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
            if node.module == "critwin":
                names = [f"critwin.{alias.name}" for alias in node.names]
        else:
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"relative in {file}"
            continue
        found |= {name.removeprefix("critwin.") for name in names if name.startswith("critwin.")}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_imports_point_down_only(file: Path) -> None:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if module == "__init__":
        return  # the public names, imported lazily
    for other in imports_of(file):
        assert floor_of(other) <= floor_of(module), f"{module} imports {other}, which is above it"
        pair = (module.partition(".")[0], other.partition(".")[0])
        assert pair not in APART, f"{module} imports {other}"


def test_the_test_above_sees_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from critwin.cli import main\n    import critwin.runs.lock\n")
    assert imports_of(file) == {"cli", "runs.lock"}
    assert floor_of("cli") > floor_of("runs.lock") > floor_of("levels")


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


LIBRARIES = ["torch", "numpy", "scipy", "pandas", "xarray", "matplotlib", "diffusers", "h5py"]
HEAVY = [*LIBRARIES, "pydantic", "rich"]


def test_import_critwin_loads_nothing_heavy() -> None:
    code = f"import sys, critwin; dir(critwin); print(set({HEAVY}) & set(sys.modules))"
    assert _python(code) == "set()"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from critwin.cli import main; main(['--help']);"
        f"print(set({LIBRARIES}) & set(sys.modules))"
    )
    assert _python(code).splitlines()[-1] == "set()"


def test_the_lower_floors_do_without_torch() -> None:
    heavy = ["torch", "pandas", "xarray", "matplotlib", "diffusers"]
    names = ["levels", "records", "transitions", "views", "windows", "streams", "runs.config"]
    code = (
        f"import sys, critwin.{', critwin.'.join(names)}; print(set({heavy}) & set(sys.modules))"
    )
    assert _python(code) == "set()"


def test_theory_needs_no_extras() -> None:
    heavy = ["diffusers", "matplotlib", "pandas", "xarray", "pydantic", "typer"]
    code = f"import sys, critwin.theory; print(set({heavy}) & set(sys.modules))"
    assert _python(code) == "set()"


def test_public_names_resolve_and_are_what_they_say() -> None:
    for name in critwin.__all__:
        assert getattr(critwin, name) is not None
        assert name in dir(critwin)
    assert critwin.Records.__module__ == "critwin.records"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = critwin.nothing  # type: ignore[attr-defined]


def test_lazy_names_and_typed_names_agree() -> None:
    """What type checkers see under TYPE_CHECKING is what is imported at run time."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("critwin.")
        for alias in node.names
    }
    assert typed == critwin._HOMES
    assert {*typed, "__version__"} == set(critwin.__all__)


def _modules() -> list[str]:
    names = []
    for file in FILES:
        parts = file.relative_to(ROOT.parent).with_suffix("").parts
        if parts[-1] == "__init__" or not parts[-1].startswith("_"):
            names.append(".".join(parts).removesuffix(".__init__"))
    return names


@pytest.mark.parametrize("name", _modules())
def test_public_things_exist_and_document_their_arguments(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        thing = getattr(module, public)
        if getattr(thing, "__module__", None) != name:
            continue
        if inspect.isclass(thing):
            assert thing.__doc__, f"{name}.{public} has no docstring"
            for key, method in vars(thing).items():
                if not key.startswith("_") and inspect.isfunction(method):
                    _check_arguments(f"{name}.{public}.{key}", method)
        elif inspect.isfunction(thing) and not name.startswith("critwin.cli"):
            _check_arguments(f"{name}.{public}", thing)


def _check_arguments(name: str, function: object) -> None:
    assert callable(function)
    text = inspect.getdoc(function) or ""
    assert text, f"{name} has no docstring"
    if "\n" not in text:
        return  # one line says it all
    for argument in inspect.signature(function).parameters:
        if argument not in ("self", "cls") and not argument.startswith("_"):
            is_there = f"{argument}:" in text or f"``{argument}``" in text
            assert is_there, f"{name}: argument {argument!r} is not in its docstring"
