"""The rules of the house, as tests: who may import whom, what stays light, how long things may be.

Each rule is a function from sources to complaints, applied to the checkout, and shown further down to complain about a
tree that breaks it: a rule that cannot fail keeps nothing.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_text_encoding import text_names_its_encoding

ROOT = Path(__file__).parents[1]
PACKAGE = "interformer_rec"
# Lowest first. Modules and folders in one row do not import each other; a module imports only from rows above its own.
ORDER = [
    ["redaction"],
    ["errors", "text"],
    ["filesystem", "files", "host_memory", "strict_yaml", "html"],
    ["storage", "install", "result_table"],
    ["config"],
    ["batch"],
    ["metrics", "ops"],
    ["data", "model"],
    ["distributed"],
    ["checkpoint", "watchdog"],
    ["planning"],
    ["training"],
    ["benchmarking", "explaining", "serving", "tuning"],
    ["demo"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, row in enumerate(ORDER) for room in row}
# Beyond the order: the sharding code takes any model and any batch.
FORBIDDEN = {("distributed", "model"), ("distributed", "data")}
NO_TORCH = {room for row in ORDER[: ORDER.index(["batch"])] for room in row} | {"cli", "__main__"}
NO_TORCHREC = NO_TORCH | {"ops", "metrics"}
# A folder that lists alternatives (a public data set, a comparison system a file) may hold more modules.
CATALOGUES = {"data/recipes", "model/baselines"}
MAX_MODULES, MAX_ALIKE = 16, 2
MAX_FILE, MAX_FUNCTION = 300, 60

Tree = dict[str, ast.Module]  # path below the package, as "data/parquet.py" -> its syntax tree


@functools.cache
def package_tree() -> Tree:
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {str(path.relative_to(ROOT / PACKAGE)): ast.parse(path.read_text()) for path in files}


def room(path: str) -> str:
    """'data/parquet.py' -> 'data'; 'schema.py' -> 'schema'; '__init__.py' -> ''."""
    first = path.split("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted module, line) of every import below `node`; `from a import b` gives a.b, which may be a name in a."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = "." * child.level + (child.module or "")
            yield from ((f"{base}.{alias.name}", child.lineno) for alias in child.names)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def at_module_level(tree: ast.Module) -> list[tuple[str, int]]:
    inside = {found for function in functions(tree) for found in imports(function)}
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    typing_only = {found for node in guards for found in imports(node)}
    return [found for found in imports(tree) if found not in inside | typing_only]


def rooms_have_a_place(tree: Tree) -> list[str]:
    unknown = sorted({room(path) for path in tree} - set(LEVEL) - {""})
    return [f"{name}: give it a place in ORDER (CONTRIBUTING.md, where a thing belongs)" for name in unknown]


def imports_go_down(tree: Tree) -> list[str]:
    complaints = []
    for path, module in tree.items():
        here = room(path)
        for name, line in imports(module):
            if name.startswith("."):
                complaints.append(f"{path}:{line}: relative import {name}; write {PACKAGE}.…")
            there = name.split(".")[1] if name.startswith(f"{PACKAGE}.") else ""
            if there not in LEVEL or here not in LEVEL or there == here:
                continue
            if LEVEL[there] >= LEVEL[here] or (here, there) in FORBIDDEN:
                complaints.append(f"{path}:{line}: {here} must not import {name}")
    return complaints


def no_cycles(tree: Tree) -> list[str]:
    names = {f"{PACKAGE}.{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}": path for path in tree}
    graph = {
        path: {
            names[target]
            for name, _ in imports(module)
            for target in (name, name.rpartition(".")[0])
            if target in names
        }
        for path, module in tree.items()
    }
    complaints, done = [], set()

    def visit(path: str, trail: list[str]) -> None:
        if path in trail:
            complaints.append("cycle: " + " -> ".join([*trail[trail.index(path) :], path]))
        elif path not in done:
            for target in sorted(graph[path] - {path}):
                visit(target, [*trail, path])
            done.add(path)

    for path in graph:
        visit(path, [])
    return complaints


def no_own_imports_in_functions(tree: Tree) -> list[str]:
    return [
        f"{path}:{line}: import of {name} inside {function.name}()"
        for path, module in tree.items()
        for function in functions(module)
        for name, line in imports(function)
        if name.startswith((PACKAGE, "."))
    ]


def packages_export_nothing(tree: Tree) -> list[str]:
    """An __init__.py holds its docstring, and at the root the version."""
    complaints = []
    for path, module in tree.items():
        if path.split("/")[-1] != "__init__.py":
            continue
        for node in module.body[1 if ast.get_docstring(module) else 0 :]:
            if path == "__init__.py" and ast.unparse(node).startswith("__version__ = "):
                continue
            complaints.append(f"{path}:{node.lineno}: a package's __init__ holds its docstring and nothing else")
    return complaints


def light_rooms_stay_light(tree: Tree) -> list[str]:
    heavy = {"torchrec": NO_TORCHREC, "fbgemm_gpu": NO_TORCHREC - {"ops"}, "torch": NO_TORCH}
    return [
        f"{path}:{line}: {room(path)} must not import {name} at module level"
        for path, module in tree.items()
        for name, line in at_module_level(module)
        if room(path) in heavy.get(name.split(".")[0], set())
    ]


def everything_says_what_it_is(tree: Tree) -> list[str]:
    return [f"{path}: no module docstring" for path, module in tree.items() if not ast.get_docstring(module)]


def functions_fit_a_screen(tree: Tree) -> list[str]:
    return [
        f"{path}:{function.lineno}: {function.name}() has {length} lines, {MAX_FUNCTION} at most"
        for path, module in tree.items()
        for function in functions(module)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION
    ]


def modules_of(tree: Tree) -> dict[str, list[str]]:
    """Folder -> names of its modules, __init__ and __main__ left out."""
    found: dict[str, list[str]] = {}
    for path in sorted(tree):
        folder, _, name = path.rpartition("/")
        if name not in ("__init__.py", "__main__.py"):
            found.setdefault(folder, []).append(name.removesuffix(".py"))
    return found


def folders_hold_few_modules(tree: Tree) -> list[str]:
    return [
        f"{folder or '(root)'} has {len(names)} modules, {MAX_MODULES} at most: make a folder of what belongs together"
        for folder, names in modules_of(tree).items()
        if len(names) > MAX_MODULES and folder not in CATALOGUES
    ]


def no_prefix_is_shared_by_three(tree: Tree) -> list[str]:
    complaints = []
    for folder, names in modules_of(tree).items():
        for prefix in sorted({name.split("_")[0] for name in names}):
            alike = [name for name in names if name.split("_")[0] == prefix]
            if len(alike) > MAX_ALIKE:
                complaints.append(f"{folder}: {', '.join(alike)} share the prefix {prefix}: make a folder of them")
    return complaints


def class_names_differ_in_a_folder(tree: Tree) -> list[str]:
    complaints, seen = [], {}
    for path, module in sorted(tree.items()):
        folder = path.rpartition("/")[0]
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                other = seen.setdefault((folder, node.name), path)
                if other != path:
                    complaints.append(f"{path}:{node.lineno}: class {node.name} is also in {other}")
    return complaints


def every_room_exists(tree: Tree) -> list[str]:
    rooms = {room(path) for path in tree}
    return [f"ORDER names {name}, which does not exist" for name in LEVEL if name not in rooms]


RULES = [
    rooms_have_a_place,
    imports_go_down,
    no_cycles,
    no_own_imports_in_functions,
    packages_export_nothing,
    light_rooms_stay_light,
    everything_says_what_it_is,
    functions_fit_a_screen,
    text_names_its_encoding,
    folders_hold_few_modules,
    no_prefix_is_shared_by_three,
    class_names_differ_in_a_folder,
    every_room_exists,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule):
    assert rule(package_tree()) == []


@pytest.mark.parametrize("folder", [PACKAGE, "tests", "benchmarks", "launch"])
def test_files_fit_a_sitting(folder):
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_FILE} == {}


def test_modules_are_named_for_what_they_hold():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base"}
    assert [path for path in package_tree() if vague & {part.removesuffix(".py") for part in path.split("/")}] == []


def test_light_modules_load_no_torch():
    """What ast cannot see: torch brought in by something that brings in something."""
    light = [path.removesuffix(".py") for path in package_tree() if room(path) in NO_TORCH and path != "__main__.py"]
    names = ", ".join(f"{PACKAGE}.{path.removesuffix('/__init__').replace('/', '.')}" for path in light)
    code = f"import sys, {names}; print(sorted(set('torch torchrec fbgemm_gpu sklearn pandas'.split()) & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "[]"


BROKEN = {
    "rooms_have_a_place": {"misc.py": "x = 1"},
    "imports_go_down": {"data/parquet.py": "from interformer_rec.model import layers"},
    "no_cycles": {
        "data/a.py": "from interformer_rec.data import b",
        "data/b.py": "from interformer_rec.data.a import x",
    },
    "no_own_imports_in_functions": {"data/a.py": "def f():\n    import interformer_rec.data.b"},
    "packages_export_nothing": {"data/__init__.py": '"""Doc."""\nfrom interformer_rec.data.a import x'},
    "light_rooms_stay_light": {"config/run.py": "try:\n    import torch.nn\nexcept ImportError:\n    pass"},
    "everything_says_what_it_is": {"a.py": "x = 1"},
    "folders_hold_few_modules": {f"data/m{i}.py": "" for i in range(MAX_MODULES + 1)},
    "no_prefix_is_shared_by_three": {"data/run.py": "", "data/run_log.py": "", "data/run_folder.py": ""},
    "class_names_differ_in_a_folder": {"data/a.py": "class Part: ...", "data/b.py": "class Part: ..."},
    "every_room_exists": {"data/a.py": ""},
    "functions_fit_a_screen": {"a.py": "def f():\n" + "    x = 1\n" * MAX_FUNCTION},
    "text_names_its_encoding": {"a.py": "path.read_text()"},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_can_fail(rule):
    assert rule({path: ast.parse(text) for path, text in BROKEN[rule.__name__].items()})


@pytest.mark.parametrize(
    "path, text",
    [
        ("distributed/sharding.py", "from interformer_rec.model.task import Task"),
        ("distributed/sharding.py", "import interformer_rec.data.loader"),
        ("model/layers.py", "import interformer_rec.data.loader"),
        ("ops/jagged.py", "import interformer_rec.batch\nfrom interformer_rec import training"),
        ("config/run.py", "from interformer_rec import data"),
        ("data/a.py", "from . import b"),
    ],
)
def test_directions_that_are_refused(path, text):
    assert imports_go_down({path: ast.parse(text)})
