"""What the README and the site say is what the program does."""

import ast
import importlib.util
import inspect
import re
import shlex
import shutil
import sys
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import fsspec
import h5py
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

import lfads_lightning as lfads
from lfads_lightning import params
from lfads_lightning.cli import VERBS
from lfads_lightning.cli.options import Parser
from lfads_lightning.cli.overrides import prepare
from lfads_lightning.cli.settings import settings_text
from lfads_lightning.config import LFADSError
from lfads_lightning.data.fields import OF_SESSION, OF_SPLIT
from lfads_lightning.evaluation.table import NOTES
from lfads_lightning.inference.posterior import Posterior, Prior
from lfads_lightning.recordings.settings import Settings
from lfads_lightning.report import findings
from lfads_lightning.runs import remote
from lfads_lightning.runs.run import Run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
    if not {"_build", "generated"} & set(path.parts)
}
JOB_FILES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.glob("tutorials/*.sbatch"))
}
SHELL = ("", "console", "bash")


def blocks(text):
    """Return the blocks of a page: their language and what is in them."""
    found = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", text, re.M)
    return [(kind.removeprefix("{code-cell} "), block) for kind, block in found]


def commands():
    """Return every command that a page or a job file shows, with its page."""
    found = {}
    for page, text in (PAGES | JOB_FILES).items():
        lines = text.replace("$SLURM_ARRAY_TASK_ID", "1").splitlines() if page in JOB_FILES else []
        for kind, block in blocks(text):
            if kind in SHELL:
                lines += re.sub(r" *\\\n *", " ", block).splitlines()
        outside = re.sub(r"^```.*\n(?:.*\n)*?```$", "", text, flags=re.M)
        lines += [m.replace("\n", " ") for m in re.findall(r"(?<!`)`([^`]+)`(?!`)", outside)]
        for line in lines:
            line = re.sub(r"^srun ", "", re.sub(r"\s+#.*", "", line))
            if re.match(r"(lfads|python train\.py|python -m|make|pip install) ", line):
                found.setdefault(line.strip(), page)
    return found


COMMANDS = commands()
# that stand for any command, or leave something out
IN_GENERAL = re.compile(r"VERB|…|\.\.\.")
RUNS = [
    c
    for c in COMMANDS
    if re.match(r"lfads train |python train\.py ", c)
    and "--help" not in c
    and not IN_GENERAL.search(c)
]
TOOLS = [
    c
    for c in COMMANDS
    if (found := re.match(r"lfads (\w+) .", c))
    and found[1] in set(VERBS) - {"train"}
    and "--help" not in c
    and not IN_GENERAL.search(c)
]


def test_readme_is_one_page():
    assert len(README.splitlines()) <= 180
    assert len(README.encode()) <= 12 * 1024


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_first_command_is_shown_as_it_was_printed(page):
    """``python -m benchmarks.first_command RECORDING --docs`` writes it."""
    told = (DOCS / "first-command.txt").read_text(encoding="utf-8")
    assert f"```text\n{told}```\n" in PAGES[page]
    assert (DOCS / "first-command.png").is_file()


# --- commands ---


@pytest.mark.parametrize("command", RUNS)
def test_command_is_understood(command, tmp_path, monkeypatch, new_config):
    monkeypatch.chdir(tmp_path)
    for folder in ("RUN", "FOLDER", "SENT", "run"):
        (tmp_path / folder).mkdir()
        Run(tmp_path / folder).write_config(new_config())
    (tmp_path / "my_params.yaml").write_text("co_dim: 3")
    with h5py.File(tmp_path / "any.h5", "w") as file:
        file["train_data"] = np.ones((9, 8, 5), np.uint8)
    for folder in ("data", "FOLDER", "DATA", "shared/data", "."):  # recipe=auto looks at the data
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for stem in ("monkey", "NAME", "traces", "day1", "new", "mine"):
            shutil.copy(tmp_path / "any.h5", tmp_path / folder / f"{stem}.h5")
    bucket = fsspec.filesystem("memory")  # in place of S3
    monkeypatch.setattr(remote, "NO_STORES", set())
    bucket.pipe_file("/lab/mine.yaml", b"co_dim: 3")
    bucket.pipe_file("/lab/runs/a/config.yaml", (tmp_path / "RUN/config.yaml").read_bytes())
    GlobalHydra.instance().clear()
    if plugin := re.search("launcher=(joblib|submitit|ray)", command):
        pytest.importorskip(f"hydra_plugins.hydra_{plugin[1]}_launcher", reason="needs an extra")
    if "engine=ray" in command:
        pytest.importorskip("ray", reason="needs an extra")
    command = command.replace("s3://", "memory://").replace("/shared/", f"{tmp_path}/shared/")
    words = shlex.split(command)[2:]
    argv = [a.replace("range(50)", "7") for a in words if a != "-m"]
    if "-m" in words:  # one job of the sweep
        assert any("," in a for a in argv)
        argv = [a.split(",")[0] for a in argv]
    try:
        settings_text(prepare(argv))
    except LFADSError as error:  # what it says is tested elsewhere
        if 'pip install "lfads-lightning[' not in str(error):
            raise
        pytest.skip(f"needs an extra: {error}")


@pytest.mark.parametrize("line", TOOLS)
def test_command_around_training_is_understood(line):
    """Its options are as README and site type them."""
    _, verb, *words = shlex.split(line)
    module = import_module(f"lfads_lightning.cli.{verb}")
    given = Parser(verb, "", module.Options, *([Settings] * (verb == "prepare"))).given(words)
    assert given
    if verb == "prepare" and "out" in given:
        own = {field.name for field in fields(module.Options)}
        Settings(**{name: value for name, value in given.items() if name not in own})


def test_there_are_commands_of_each_verb():
    assert len(RUNS) >= 25
    assert {line.split()[1] for line in TOOLS} == set(VERBS) - {"train"}


def test_other_commands_are_there():
    """Benchmarks with their options, targets of make, extras."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    checked = 0
    for command, page in COMMANDS.items():
        words = shlex.split(command)
        if words[:2] == ["python", "-m"]:
            path = ROOT / (words[2].replace(".", "/") + ".py")
            assert path.exists(), (command, page)
            text = path.read_text(encoding="utf-8")
            text += (ROOT / "benchmarks/machine.py").read_text(encoding="utf-8")
            for option in [w for w in words if w.startswith("--")]:
                assert option in text, (command, page)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.M), (command, page)
        elif "lfads-lightning[" in command:
            (extra,) = re.findall(r"\[(\w+)\]", command)
            assert re.search(rf"^{extra} = ", project, re.M), (command, page)
        checked += 1
    assert checked >= 40


# --- Python ---


def test_readme_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = [block for kind, block in blocks(README) if kind == "python"]
    small = "gen_dim=8, ic_enc_dim=8, ci_enc_dim=8, con_dim=8, max_steps=4, device='cpu:0', "
    small += "report=False, num_score_samples=2, batch_size=4"
    assert "fit(spikes)" in code
    code = code.replace("fit(spikes)", f"fit(spikes, {small})")
    code = code.replace("trained.report()", "trained.report")  # test_face writes one
    scope = {"spikes": np.random.default_rng(0).poisson(1.0, (20, 12, 10))}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["post"].rates.shape == (20, 12, 10)
    assert isinstance(scope["again"], lfads.Trained)


PYTHON = [
    pytest.param(block, id=f"{page}-{number}")
    for page, text in PAGES.items()
    for number, (kind, block) in enumerate(blocks(text))
    if kind in ("python", "ipython3")
    and page not in ("docs/guide/notebook.md", "docs/guide/scikit-learn.md")  # these are run
]


@pytest.mark.parametrize("block", PYTHON)
def test_example_calls_what_is_there(block):
    """Functions of ours take the keywords that an example gives them."""
    code = re.sub(r"\A(?::.*\n)+", "", block)
    for call in ast.walk(ast.parse(code)):
        named = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if not named or not isinstance(call.func.value, ast.Name) or call.func.value.id != "lfads":
            continue
        function = getattr(lfads, call.func.attr)
        known = inspect.signature(function).parameters
        for keyword in call.keywords:
            assert keyword.arg is None or keyword.arg in known, ast.unparse(call)


# --- links ---


def anchors(text):
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    plain = [re.sub(r"[^\w\- ]", "", t.lower().replace("`", "")) for t in titles]
    return {t.strip().replace(" ", "-") for t in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    generated = reference_tables().PAGES
    text = re.sub(r"^```.*\n(?:.*\n)*?```$", "", PAGES[page], flags=re.M)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:|mailto:", link):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            content = target.read_text(encoding="utf-8")
            for name in re.findall(r"\{include\} \.\./(?:generated/)?([\w-]+)\.md", content):
                content += "\n" + (generated[name]() if name in generated else PAGES[f"{name}.md"])
            assert anchor in anchors(content), link
    named = r"`(?:python )?((?:lfads_lightning|benchmarks|tests|conf|docs)/[\w/.-]+?)/?[` ]"
    for path in re.findall(named, text):
        if not re.search("_build|generated|test_NAME", path):
            assert (ROOT / path).exists(), path


def test_every_page_is_in_a_list_of_contents():
    listed = set()
    for page, text in PAGES.items():
        for block in re.findall(r"^```\{toctree\}\n((?:.*\n)*?)```$", text, re.M):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {((ROOT / page).parent / f"{n}.md").relative_to(DOCS) for n in names}
    pages = {Path(page).relative_to("docs") for page in PAGES if page.startswith("docs/")}
    assert listed == pages - {Path("index.md")}


# --- the reference ---


def reference_tables():
    spec = importlib.util.spec_from_file_location("reference_tables", DOCS / "reference_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_column(table):
    return re.findall(r"^\| `([^`]+)`", table, re.M)


def test_reference_lists_everything_once(tmp_path):
    tables = reference_tables()
    tables.write(tmp_path)
    made = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    listed = first_column(made["parameters"])
    assert sorted(listed) == sorted(params.dotted_names().values())
    keys = " ".join(re.findall(r"^\| (.*?) \|", made["session-keys"], re.M))
    for name in (*(f"train_{n}" for n in OF_SPLIT), *OF_SESSION):
        assert keys.count(f"`{name}`") == 1, name
    assert sorted(first_column(made["outputs"])) == sorted({*Posterior._fields, *Prior._fields})
    assert first_column(made["metrics"]) == list(NOTES)
    assert re.findall(r"^## `lfads (\w+)`", made["commands"], re.M) == list(VERBS)
    included = re.findall(r"generated/([\w-]+)\.md", "\n".join(PAGES.values()))
    assert sorted(included) == sorted(made)


def test_every_warning_of_the_report_is_explained():
    source = Path(findings.__file__).read_text(encoding="utf-8")
    made = {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"
    }
    told = re.findall(r"^### `(\w+)`", PAGES["docs/guide/warnings.md"], re.M)
    assert sorted(told) == sorted(made)


def test_every_embedded_set_and_extra_is_named():
    sweeps, quickstart = PAGES["docs/guide/sweeps.md"], PAGES["docs/quickstart.md"]
    for path in (ROOT / "conf/experiment").glob("*.yaml"):
        stem = re.search(r"data_filename_stem: (\S+)", path.read_text(encoding="utf-8"))
        if path.stem not in ("aplysia", "macaque_reach", "lorenz_canonical"):
            assert f"`{path.stem}`" in sweeps or f"={path.stem}" in sweeps, stem
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    extras = extras[extras.index("nwb") : extras.index("dev") + 1]
    for extra in extras:
        assert f"`{extra}`" in quickstart, extra


@pytest.mark.slow
def test_site_builds_without_a_warning(tmp_path):
    """As `make docs`: tutorials are trained, and no page asks for anything from outside."""
    build = pytest.importorskip("sphinx.cmd.build", reason="needs the extra [docs]")
    pytest.importorskip("myst_nb")
    words = ["-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    assert build.main([*words, str(DOCS), str(tmp_path / "html")]) == 0
    for path in (tmp_path / "html").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"(https?:[^\"]+)", text)
        loaded += re.findall(r"<link[^>]* rel=\"stylesheet\"[^>]* href=\"(https?:[^\"]+)", text)
        assert not loaded, path.name
    # cells that draw show what they drew: IPython is silent about a line that ends in a semicolon
    for source in sorted(DOCS.glob("tutorials/*.md")):
        drawing = [b for kind, b in blocks(source.read_text(encoding="utf-8"))
                   if kind == "ipython3" and re.search(r"\.plot\.|plt\.subplots", b)]  # fmt: skip
        page = (tmp_path / "html" / "tutorials" / f"{source.stem}.html").read_text(encoding="utf-8")
        assert page.count("_images/") >= len(drawing), source.name
    sys.modules.pop("reference_tables", None)
