"""Who imports whom, and what must not stand anywhere: read from the syntax trees."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from lfads_lightning.runs import run

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lfads_lightning"
OURS = "lfads_lightning"
SOURCES = {p.relative_to(ROOT).as_posix(): p for p in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
KINDS = f"{OURS}/cli/kinds.py"  # does what was asked for, once the command line is checked
CONF = sorted((ROOT / "conf").rglob("*.yaml"))


def of(*parts):
    """Return the sources in these folders or under these file names."""
    return [n for n in SOURCES if any(n.startswith(f"{OURS}/{part}") for part in parts)]


def imported(name):
    """Return every module that a source imports, at its top or inside a function, dotted.

    ``from package import name`` gives ``package`` and ``package.name``, which may be a module too.
    """
    package = name.split("/")[:-1]
    modules = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            modules |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            modules |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return modules


def _called(call):
    """Return the last part of the name of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def inside(module, *packages):
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def test_all_parts_of_the_package_are_looked_at():
    """The rules below say nothing of a folder that was renamed."""
    folders = ("model", "data", "recordings", "training", "inference", "metrics", "report", "cli")
    for part in (f"{folder}/" for folder in folders):
        assert len(of(part)) >= 2
    assert len(of("config.py", "api.py", "cli/kinds.py", "runs/private.py")) == 4


@pytest.mark.parametrize("name", of("model/"))
def test_model_imports_torch_alone(name):
    allowed = ["torch", f"{OURS}.config", f"{OURS}.runs.private", f"{OURS}.model"]
    allowed += sys.stdlib_module_names
    if "/triton_" in name:
        allowed.append("triton")
    strangers = {m for m in imported(name) if not inside(m, *allowed) and m != OURS}
    assert strangers == set()


WITH_LIGHTNING = of("training/", "search/", "data/datamodule", "report/training_figures")


@pytest.mark.parametrize("name", [n for n in SOURCES if n not in WITH_LIGHTNING])
def test_lightning_is_imported_where_models_train_alone(name):
    """It takes seconds, which everything else need not wait for."""
    assert not any(inside(m, "lightning") for m in imported(name))


@pytest.mark.parametrize("name", [n for n in SOURCES if n not in of("cli/")])
def test_command_lines_are_known_to_cli_alone(name):
    assert not any(inside(m, "hydra", "argparse", f"{OURS}.cli") for m in imported(name))


@pytest.mark.parametrize("name", ["config.py", "runs/private.py"])
def test_what_the_model_knows_imports_the_standard_library_alone(name):
    modules = imported(f"{OURS}/{name}")
    assert {m for m in modules if not inside(m, *sys.stdlib_module_names)} == set()


@pytest.mark.parametrize("name", of("metrics/"))
def test_metrics_are_functions_of_arrays(name):
    allowed = ["numpy", "scipy", "sklearn", f"{OURS}.metrics", *sys.stdlib_module_names]
    assert {m for m in imported(name) if not inside(m, *allowed)} == set()


OUTMOST = ("interface", "api")
FORBIDDEN = {
    "notebook/": ("runs", "data", "model", "training", "recordings", "inference", "evaluation",
                  "report", *OUTMOST),
    "runs/": ("model", "training", "recordings", "inference", "evaluation", "report", *OUTMOST),
    "recordings/": ("model", "training", "inference", "evaluation", "report", *OUTMOST),
    "data/": ("model", "training", "recordings", "inference", "evaluation", "report", *OUTMOST),
    "training/": ("inference", "evaluation", "report", *OUTMOST),
    "inference/": ("evaluation", "report", *OUTMOST),
    "evaluation/": ("report", *OUTMOST),
    "report/": OUTMOST,
    "search/": ("report", *OUTMOST),
    "interface/": ("api", "estimator"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "others"), [(n, others) for part, others in FORBIDDEN.items() for n in of(part)]
)
def test_imports_go_inward(name, others):
    outward = {m for m in imported(name) if inside(m, *(f"{OURS}.{other}" for other in others))}
    assert outward == set()


def room(module):
    """Return the folder of a module of ours, or itself where it lies beside the folders."""
    return module.split(".")[1]


def test_folders_import_each_other_in_no_circle():
    """So each can be read, and changed, with those below it alone."""
    modules = {
        n.removesuffix(".py").removesuffix("/__init__").replace("/", "."): n for n in SOURCES
    }
    del modules[OURS]  # hands names on, when they are asked for
    arrows = {room(module): set() for module in modules}
    for module, name in modules.items():
        used = {m for m in imported(name) if m in modules}
        arrows[room(module)] |= {room(m) for m in used} - {room(module)}
    assert len(arrows) > 15
    order = list(TopologicalSorter(arrows).static_order())  # raises CycleError, which names one
    assert order.index("config") < order.index("runs") < order.index("search")
    assert order.index("search") < order.index("report") < order.index("cli")


def _docstrings(tree):
    """Return the texts that stand alone: docstrings, and what is written below an attribute."""
    alone = [n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)]
    return {id(n) for n in alone if isinstance(n, ast.Constant)}


FILES = {text for key, text in vars(run).items() if key.isupper() and isinstance(text, str)}
# written from the texts of config.py; other tools' files, which may have the same names
OTHERS = ("notebook/typed_keywords.py", "recordings/readers/")
FOLDERS = {run.CHECKPOINTS, run.FIGURES, run.TENSORBOARD, run.MEMBERS, run.TRIED}


@pytest.mark.parametrize("name", [n for n in SOURCES if n not in of("runs/", "config.py", *OTHERS)])
def test_files_of_a_run_are_named_in_one_place(name):
    """Nobody else spells them, be it in an f-string, a message or a help text.

    But for config.py, which imports nothing of ours and whose texts are documentation, and what is
    written from it.
    """
    tree, spelled = TREES[name], []
    alone, joined = _docstrings(tree), FILES - FOLDERS - {run.BEST}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            if any(file in node.value for file in joined) or node.value.strip("/") in FOLDERS:
                spelled.append((node.lineno, node.value))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [p.value for p in (node.left, node.right) if isinstance(p, ast.Constant)]
            spelled += [(node.lineno, run.BEST)] if run.BEST in parts else []
    assert spelled == []


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_can_run_code_from_a_file(name):
    assert not any(inside(m, "pickle", "cloudpickle", "dill", "joblib") for m in imported(name))
    for node in ast.walk(TREES[name]):
        if not isinstance(node, ast.Call):
            continue
        given = {k.arg: k.value for k in node.keywords}
        if isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile"}, f"line {node.lineno}"
        flag = given.get("weights_only")
        if flag is not None:
            assert isinstance(flag, ast.Constant), f"line {node.lineno}"
            assert flag.value is True, f"line {node.lineno}"
        if ast.unparse(node.func) == "torch.load":
            assert flag is not None, f"line {node.lineno}"
        # np.load unpickles on demand, yaml.load and yaml.unsafe_load build any object
        assert "allow_pickle" not in given, f"line {node.lineno}"
        called = ast.unparse(node.func)
        assert not called.startswith("yaml.") or called in {
            "yaml.safe_load",
            "yaml.safe_dump",
            "yaml.scan",
        }


@pytest.mark.parametrize("path", [*SOURCES.values(), *CONF], ids=lambda p: p.stem)
def test_no_setting_names_a_class(path):
    text = path.read_text(encoding="utf-8")
    assert "_target_" not in text
    assert "instantiate" not in text


def test_import_of_the_package_takes_the_standard_library_alone():
    """torch, NumPy and the like come with the first name that is used."""
    code = "import sys; before = set(sys.modules); import lfads_lightning; "
    code += "print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    heads = set(done.stdout.split())
    assert OURS in heads
    assert heads - {OURS} - sys.stdlib_module_names - {"org"} == set()  # org: a guess of copy.py


def test_command_line_is_checked_before_torch_is_imported():
    """What cli/ imports at its top knows no torch, so ``--help`` and mistakes answer at once."""
    seen, waiting = set(), [name for name in of("cli/") if name != KINDS]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        tops = [n for n in TREES[name].body if isinstance(n, ast.Import | ast.ImportFrom)]
        for node in tops:
            heads = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            if isinstance(node, ast.ImportFrom) and node.module == OURS:
                heads += [f"{OURS}.{alias.name}" for alias in node.names]
            for module in heads:
                assert not inside(module, "torch", "lightning", "matplotlib", "scipy"), name
                source = module.replace(".", "/") + ".py"
                if source in SOURCES and source not in seen:
                    waiting.append(source)
    assert f"{OURS}/params.py" in seen
