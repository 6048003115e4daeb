"""The rules of the house. In: the sources of a tree; out: complaints, none where the rule is kept.

tests/test_architecture.py applies each to the checkout and to a small made-up tree that breaks it.
"""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "interformer_rec"
# Lowest first. Modules and folders in one row do not import each other; a module imports only from rows above its own.
ORDER = [
    ["redaction"],
    ["errors", "text"],
    ["filesystem", "files", "host", "strict_yaml", "html"],
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
MAX_PARAMETERS = 7
# Kernels take tensors, strides and sizes one by one, and so does an operator of torch.library.
OF_KERNELS = ("ops/triton/", "ops/library.py")
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base"}
OUTSIDE = ("tests", "benchmarks", "launch", "docs")  # nothing of them is in a wheel but launch, which stands above
HEAVY = ("torch", "torchrec", "fbgemm_gpu", "sklearn", "pandas")

Tree = dict[str, ast.Module]  # path below the package, as "data/parquet.py" -> its syntax tree


@functools.cache
def package_tree() -> Tree:
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    return {str(path.relative_to(ROOT / PACKAGE)): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def room(path: str) -> str:
    """'data/parquet.py' -> 'data'; 'schema.py' -> 'schema'; '__init__.py' -> ''."""
    first = path.split("/")[0].removesuffix(".py")
    return "" if first == "__init__" else first


@functools.cache
def statements(node: ast.AST) -> list[ast.stmt]:
    """Every statement below `node`: a tenth of what ast.walk finds, and rules ask often."""
    found: list[ast.stmt] = []
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, name, None) or []:
            found += [child, *statements(child)] if isinstance(child, ast.stmt) else statements(child)
    return found


def imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    """(dotted module, line) of every import below `node`; `from a import b` gives a.b, which may be a name in a."""
    for child in statements(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = "." * child.level + (child.module or "")
            yield from ((f"{base}.{alias.name}", child.lineno) for alias in child.names)


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in statements(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def at_module_level(tree: ast.Module) -> list[tuple[str, int]]:
    inside = {found for function in functions(tree) for found in imports(function)}
    guards = [
        node for node in statements(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
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
            if name.split(".")[0] in OUTSIDE:
                complaints.append(f"{path}:{line}: the package must not import {name}")
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


def functions_take_few_values(tree: Tree) -> list[str]:
    """More than MAX_PARAMETERS: pass the value they come from, such as a part of the config."""
    complaints = []
    for path, module in tree.items():
        for function in functions(module) if not path.startswith(OF_KERNELS) else ():
            given = function.args
            names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            count = len(set(names) - {"self", "cls"})
            if count > MAX_PARAMETERS:
                complaints.append(
                    f"{path}:{function.lineno}: {function.name}() has {count} parameters, {MAX_PARAMETERS} at most"
                )
    return complaints


def no_error_is_swallowed(tree: Tree) -> list[str]:
    """`except Exception: pass`, in any of its spellings."""
    return [
        f"{path}:{handler.lineno}: whatever goes wrong here is not told to anybody"
        for path, module in tree.items()
        for handler in ast.walk(module)
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException"))
        and all(isinstance(node, ast.Pass | ast.Continue) for node in handler.body)
    ]


def modules_are_named_for_what_they_hold(tree: Tree) -> list[str]:
    return [f"{path}: a vague name" for path in tree if VAGUE & {part.removesuffix(".py") for part in path.split("/")}]


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
        for node in statements(module):
            if isinstance(node, ast.ClassDef):
                other = seen.setdefault((folder, node.name), path)
                if other != path:
                    complaints.append(f"{path}:{node.lineno}: class {node.name} is also in {other}")
    return complaints


def no_class_name_is_used_three_times(tree: Tree) -> list[str]:
    seen: dict[str, list[str]] = {}
    for path, module in sorted(tree.items()):
        for node in module.body:
            if isinstance(node, ast.ClassDef):
                seen.setdefault(node.name, []).append(path)
    return [f"class {name} is in {', '.join(paths)}" for name, paths in seen.items() if len(paths) > MAX_ALIKE]


def every_room_exists(tree: Tree) -> list[str]:
    rooms = {room(path) for path in tree}
    return [f"ORDER names {name}, which does not exist" for name in LEVEL if name not in rooms]


def files_fit_a_sitting(folder: Path) -> list[str]:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py")}
    return [f"{path}: {n} lines, {MAX_FILE} at most" for path, n in sorted(lengths.items()) if n > MAX_FILE]


def table_is_the_order(text: str) -> list[str]:
    """`text`: of CONTRIBUTING.md, whose table of rooms has ORDER's, lowest first."""
    rows = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    named = [name.strip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)]
    complaints = [f"the table names {name}, which ORDER lacks" for name in named if name not in LEVEL]
    complaints += [f"the table lacks {name}" for name in LEVEL if name not in {*named, "__main__"}]
    levels = [LEVEL[name] for name in named if name in LEVEL]
    return complaints + ([] if levels == sorted(levels) else ["the table is in another order than ORDER"])


def heavy_modules_of(modules: list[str], place: Path = ROOT) -> list[str]:
    """What ast cannot see: torch brought in by something that brings in something."""
    code = f"import sys, {', '.join(modules)}; print(*sorted({set(HEAVY)} & set(sys.modules)))"
    return subprocess.check_output([sys.executable, "-c", code], cwd=place, text=True).split()
