"""The tables of the reference, generated from the code.

``conf.py`` calls this when the site is built. ``python docs/reference_tables.py`` writes the tables
to ``docs/generated``, one Markdown file each.
"""

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pathlib import Path

from lfads_lightning import params
from lfads_lightning.cli import VERBS
from lfads_lightning.cli.options import typed_name
from lfads_lightning.commands import values_of
from lfads_lightning.config import OutputDist
from lfads_lightning.data import keywords
from lfads_lightning.evaluation.scores import NEEDS
from lfads_lightning.evaluation.table import HEADLINES, NOTES
from lfads_lightning.inference.frames import ABOUT
from lfads_lightning.inference.outputs import MEANINGS, UNITS
from lfads_lightning.inference.posterior import Posterior, Prior
from lfads_lightning.model.observations import from_name
from lfads_lightning.recordings import keys
from lfads_lightning.recordings.settings import Settings

FOLDER = Path(__file__).parent / "generated"
STACKED = "{.stacked}\n"  # a table whose rows become paragraphs on a phone: _static/site.css


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = [list(head), *(list(row) for row in rows)]
    marks = str.maketrans({"|": "\\|", "<": "\\<", "\n": " "})
    cells = [[cell.translate(marks) for cell in line] for line in lines]
    cells.insert(1, ["---"] * len(cells[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def parameters() -> str:
    """Return every parameter, a section for each group."""
    found = []
    for group, cls in params.groups().items():
        names = [f.name for f in fields(cls) if f.name in params.dotted_names()]
        title = f"`{group}`" if group else "The whole run"
        about = "" if not group else (cls.__doc__ or "").strip() + "\n\n"
        found.append(f"## {title}\n\n{about}{STACKED}{params.parameter_table(names)}\n")
    return "\n".join(found)


def outputs() -> str:
    """Return the arrays of a result, for Python and for files alike."""
    rows = []
    for name, about in ABOUT.items():
        axes = "×".join(("trial", *about.axes))
        where = [kind.__name__ for kind in (Posterior, Prior) if name in kind._fields]
        units = about.units if about.axes else UNITS.get(name, about.units)
        units = "" if units == "1" else units
        rows.append((f"`{name}`", axes, units, about.meaning, ", ".join(where)))
        if f"{name}_sd" in Posterior._fields:
            spread = "standard deviation over posterior samples"
            rows.append((f"`{name}_sd`", axes, "", spread, "Posterior"))
    return table(("array", "axes", "units", "what it is", "in"), rows)


def labels() -> str:
    """Return what result files take from the data."""
    return table(("name", "what it is"), ((f"`{name}`", doc) for name, doc in MEANINGS.items()))


def noise_models() -> str:
    """Return the columns of ``output_dist_params``, by noise model."""
    rows = (
        (f"`{dist.name}`", dist.value[1], ", ".join(model.parameters), model.units)
        for dist in OutputDist
        for model in [from_name(dist)]
    )
    return table(("`model.output_dist`", "data", "blocks of D columns", "units"), rows)


def metrics() -> str:
    """Return the columns of the table of scores."""
    rows = (
        (
            f"`{name}`",
            doc,
            NEEDS.get(name, ""),
            "yes" if name in HEADLINES else "",
        )
        for name, doc in NOTES.items()
    )
    return table(("column", "what it is", "needs", "compares methods"), rows)


def commands() -> str:
    """Return the options of each verb but ``train``, whose words are the parameters."""
    found = []
    for verb, what in VERBS.items():
        found.append(f"## `lfads {verb}`\n\n{what[:1].upper()}{what[1:]}.\n")
        if verb == "train":
            found.append(
                "Takes `parameter=value` for each of the [parameters](parameters.md), and "
                "`group=preset`. With `-m` it runs a sweep.\n"
            )
            continue
        module = import_module(f"lfads_lightning.cli.{verb}")
        options = [*fields(module.Options), *(fields(Settings) if verb == "prepare" else ())]
        found.append(STACKED + table(("option", "default", "meaning"), map(_option, options)))
    return "\n".join(found)


def _option(f: Field) -> tuple[str, str, str]:
    kind, count = values_of(f)
    positional = f.metadata.get("positional")
    name = f.metadata.get("metavar") or f.name.upper() if positional else typed_name(f.name)
    if f.default is MISSING:
        default = "must be given"
    elif f.default in (None, (), False):
        default = ""
    else:
        default = f"{f.default:g}" if kind is float else f"{f.default}"
    doc = f.metadata["doc"]
    if choices := f.metadata.get("choices"):
        doc += f": {', '.join(choices)}"
    several = " …" if count == "+" else ""
    return f"`{name}{several}`", default, doc


PAGES = {
    "parameters": parameters,
    "session-keys": keywords.table,
    "prepared-keys": keys.table,
    "outputs": outputs,
    "labels": labels,
    "noise-models": noise_models,
    "metrics": metrics,
    "commands": commands,
}


def write(folder: Path = FOLDER) -> None:
    """Write the tables that have changed; Sphinx only reads those again."""
    folder.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        path, text = folder / f"{name}.md", make().rstrip() + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
