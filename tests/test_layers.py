"""The layers of gradsim: imports run down only, none in a circle, and every module has its tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gradsim

ROOT = Path(__file__).parents[1]
LAYERS = (
    "errors",
    "types",
    "machine",
    "numerics",
    "contracts",
    "engine",
    "plan",
    "data",
    "loading",
    "analysis",
    "plot",
    "run",
    "simulation",
    "training",
    "comparison",
    "experiment",
    "testing",
    "cli",
)


def dotted(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(file): file for file in (ROOT / "gradsim").rglob("*.py")}
NAMES_OF_LAYERS = ("gradsim", "gradsim.__main__")
"""They name what lies in all layers, and import it when it is asked for."""


def imports(module, types=True):
    """(module, name) of all imports, inside functions too; with `types` also those for type checkers only."""
    trees = [ast.parse(MODULES[module].read_text())]
    while trees:
        node = trees.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not types:
            trees += node.orelse
            continue
        trees += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name in MODULES)
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                where = gradsim._MODULE.get(alias.name) if node.module == "gradsim" else None
                yield (where or whole, "") if where or whole in MODULES else (node.module, alias.name)


def layer(module):
    name = module.split(".")[1]
    assert name in LAYERS, f"give {module} a place among the layers of {Path(__file__).name}"
    return LAYERS.index(name)


def test_imports_run_down_only():
    inside = [m for m in MODULES if m not in NAMES_OF_LAYERS]
    upwards = {
        f"{module} -> {imported}"
        for module in inside
        for imported, _ in imports(module)
        if imported != "gradsim" and layer(imported) > layer(module)
    }
    assert upwards == set()


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: {m for m, _ in imports(module, types=False)} - {module} for module in MODULES}
    while ends := {m for m, found in graph.items() if not found or m not in set().union(*graph.values())}:
        graph = {m: found - ends for m, found in graph.items() if m not in ends}
    assert set(graph) == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_is_imported(module):
    names = [name or imported.rpartition(".")[2] for imported, name in imports(module)]
    assert [name for name in names if name.startswith("_") and name != "__version__"] == []


# Tests.

UNTESTED_ALONE = {
    "compiled kernels, held against their NumPy twins": {"engine.lyapunov_kernels"},
    "part of the tree of norms, whose tests take blocks of every size": {
        "engine.norms.compiled",
        "engine.norms.ends",
        "engine.norms.plain",
    },
    "what joins the parts of a run, seen from outside in test_simulation.py": {
        "comparison.prepared",
        "run.prepared",
        "run.run",
        "run.setup",
    },
    "benches and specimens, on which every proof of the kit stands": {
        "testing.cell.bench",
        "testing.common",
        "testing.mitigation.bench",
        "testing.specimen",
        "testing.task.bench",
    },
    "parts of commands, seen in what the commands do and print": {
        "cli.figures",
        "cli.flow",
        "cli.following",
        "cli.options",
    },
    "seen in the tests of what they serve: derived parameters, and lists of the parameters of verbs": {
        "contracts.evaluated",
        "comparison.parameters",
        "training.parameters",
    },
    "what JAX compiles, held against autograd in test_by_jax.py": {"numerics.autodiff.jax_steps"},
    "what PyTorch derives, held against it and the shipped cells in test_torch_cell.py": {
        "numerics.autodiff.by_torch",
        "numerics.autodiff.torch_tensors",
    },
    "names only": {"numerics.autodiff", "plot"},
}
"""Modules of more than 40 lines without a file of tests of their own, by the reason."""


def file_of_tests(module):
    file = MODULES[module].relative_to(ROOT / "gradsim")
    stem = "init" if file.stem == "__init__" else file.stem
    return ROOT / "tests" / file.parent / f"test_{stem}.py"


def test_every_module_has_tests_of_its_name():
    long = {module for module, file in MODULES.items() if len(file.read_text().splitlines()) > 40}
    without = {m.removeprefix("gradsim.") for m in long if not file_of_tests(m).exists()}
    listed = set().union(*UNTESTED_ALONE.values())
    assert without - listed == set(), "write tests/<folder>/test_<module>.py, or say why not"
