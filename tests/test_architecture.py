"""The rules of the house, as tests: who may import whom, what stays light, how long things may be.

Each rule of house_rules.py is applied to the checkout, and shown to complain about a tree that breaks it: a rule that cannot
fail keeps nothing.
"""

import ast
from pathlib import Path

import pytest

from tests import house_rules as rules
from tests.test_text_encoding import text_names_its_encoding

RULES = [
    rules.rooms_have_a_place,
    rules.imports_go_down,
    rules.no_cycles,
    rules.no_own_imports_in_functions,
    rules.packages_export_nothing,
    rules.light_rooms_stay_light,
    rules.everything_says_what_it_is,
    rules.functions_fit_a_screen,
    rules.functions_take_few_values,
    rules.no_error_is_swallowed,
    rules.modules_are_named_for_what_they_hold,
    rules.folders_hold_few_modules,
    rules.no_prefix_is_shared_by_three,
    rules.class_names_differ_in_a_folder,
    rules.no_class_name_is_used_three_times,
    rules.every_room_exists,
    text_names_its_encoding,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule):
    assert rule(rules.package_tree()) == []


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
    "functions_fit_a_screen": {"a.py": "def f():\n" + "    x = 1\n" * rules.MAX_FUNCTION},
    "functions_take_few_values": {"a.py": "class A:\n    def f(self, a, b, c, d, *rest, e, f, g, h): ..."},
    "no_error_is_swallowed": {"a.py": "try:\n    f()\nexcept Exception:\n    pass"},
    "modules_are_named_for_what_they_hold": {"data/utils.py": ""},
    "folders_hold_few_modules": {f"data/m{i}.py": "" for i in range(rules.MAX_MODULES + 1)},
    "no_prefix_is_shared_by_three": {"data/run.py": "", "data/run_log.py": "", "data/run_folder.py": ""},
    "class_names_differ_in_a_folder": {"data/a.py": "class Part: ...", "data/b.py": "class Part: ..."},
    "no_class_name_is_used_three_times": {f"{room}/a.py": "class Part: ..." for room in ("data", "model", "ops")},
    "every_room_exists": {"data/a.py": ""},
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
        ("tuning/trial.py", "from benchmarks.harness import compare"),
    ],
)
def test_directions_that_are_refused(path, text):
    assert rules.imports_go_down({path: ast.parse(text)})


@pytest.mark.parametrize("folder", [rules.PACKAGE, "tests", "benchmarks", "launch", "docs"])
def test_files_fit_a_sitting(folder):
    assert rules.files_fit_a_sitting(rules.ROOT / folder) == []


def test_a_longer_file_is_refused(tmp_path: Path):
    (tmp_path / "a.py").write_text("x = 1\n" * (rules.MAX_FILE + 1), encoding="utf-8")
    assert len(rules.files_fit_a_sitting(tmp_path)) == 1


def test_light_modules_load_no_torch():
    tree = rules.package_tree()
    light = [path.removesuffix(".py") for path in tree if rules.room(path) in rules.NO_TORCH and path != "__main__.py"]
    names = [f"{rules.PACKAGE}.{path.removesuffix('/__init__').replace('/', '.')}" for path in light]
    assert rules.heavy_modules_of(names) == []


def test_a_module_that_brings_in_a_heavy_one_is_seen(tmp_path: Path):
    for name, text in {"pandas": "", "between": "import pandas", "light": "import between"}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    assert rules.heavy_modules_of(["light"], tmp_path) == ["pandas"]


def test_the_table_of_rooms_is_the_order():
    assert rules.table_is_the_order((rules.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "before, after",
    [("| `batch` |", "| `batch`, `gone/` |"), ("`demo/`", "`cli`"), ("| `redaction` |", "| `training/` |")],
)
def test_a_table_of_other_rooms_is_refused(before, after):
    text = (rules.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert rules.table_is_the_order(text.replace(before, after))
