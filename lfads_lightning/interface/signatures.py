"""Signatures of the functions that have a keyword for each parameter, key or option.

:func:`~lfads_lightning.fit` and :func:`~lfads_lightning.prepare` take these keywords by ``**``. On
import, their signatures and docstrings are completed from the tables (`data.keywords`), for
`help`, notebooks and IPython. Editors and type checkers read the source instead: for them ``python
-m lfads_lightning.interface.signatures`` writes ``notebook/typed_keywords.py``, and a test checks
that it is up to date.
"""

import dataclasses
import re
import textwrap
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from lfads_lightning.data.fields import KEYS, OF_SPLIT
from lfads_lightning.data.keywords import Keyword, keywords_of
from lfads_lightning.params import dotted_names, fields_by_name
from lfads_lightning.recordings.settings import option_keywords
from lfads_lightning.runs.files import whole_file

# held_out_neurons is also a parameter, which takes the channel numbers themselves
FIT_KEYS = tuple(key for key in KEYS if key != "train_data" and key not in dotted_names())
NOT_OF_FIT = ("kind", "data_dir", "data_filename_stem")  # fit only trains, on the data it is given
_TYPED = Path(__file__).parents[1] / "notebook" / "typed_keywords.py"
_HEAD = '''"""The keywords of `fit` and `prepare`, for editors and type checkers.

Written by ``python -m lfads_lightning.interface.signatures``; do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from numpy.typing import ArrayLike
'''


def parameter_keywords() -> list[Keyword]:
    """Return the parameters that `fit` takes."""
    shown = []
    for name, f in fields_by_name().items():
        if name in NOT_OF_FIT:
            continue
        default = f.default.name if isinstance(f.default, Enum) else f.default
        doc = re.sub(r"\bnull\b", "None", f.metadata["doc"])
        shown.append(Keyword(name, _annotation(f), doc, default))
    return shown


def key_keywords() -> list[Keyword]:
    """Return the keys of a session that `fit` takes, with and without the prefix train_."""
    keys = keywords_of(FIT_KEYS, by_session=True)
    short = [
        k._replace(name=k.name.removeprefix("train_"))
        for k in keys
        if k.name.startswith("train_") and k.name.removeprefix("train_") in OF_SPLIT
    ]
    return [*keys, *short]


def estimator_keywords() -> list[Keyword]:
    """Return the parameters of `Estimator`: those of fit that write no files; each may be None."""
    share = "Share of the trials of fit, evenly spaced, that choose the best epoch; None: .2."
    taken = [Keyword("valid_fraction", "float | None", share)]
    for k in parameter_keywords():
        group = dotted_names()[k.name].split(".")[0]
        if group not in ("output", "search") and k.name not in ("params_file", "ext_input_dim"):
            annotation = k.annotation.removesuffix(" | None")
            taken.append(k._replace(annotation=f"{annotation} | None", default=None))
    return taken


def _annotation(f: dataclasses.Field) -> str:
    if isinstance(f.default, Enum):
        return f"Literal[{', '.join(repr(member.name) for member in type(f.default))}]"
    if f.metadata["accepts"] is not None:
        return f.metadata["takes"]
    return f.type.__name__ if isinstance(f.type, type) else str(f.type)


def typed_keywords() -> str:
    """Return the source of ``typed_keywords.py``."""
    fit = [*parameter_keywords(), *key_keywords()]
    return "\n".join(
        [
            _HEAD,
            _typed("FitKeywords", "Parameters, and keys of sessions.", fit),
            _typed("EstimatorKeywords", "Parameters; None: not set.", estimator_keywords()),
            _typed("PrepareKeywords", "Options of `lfads prepare`.", option_keywords()),
        ]
    )


def _typed(name: str, doc: str, keywords: Sequence[Keyword]) -> str:
    lines = ["", f"class {name}(TypedDict, total=False):", f'    """{doc}"""', ""]
    for k in keywords:
        annotation = k.annotation.replace("'", '"')
        if len(f"    {k.name}: {annotation}") > 100:
            names, bracket, end = annotation.removeprefix("Literal[").partition("]")
            space = "    " * (2 if end else 1)
            members = "\n".join(f"{space}    {m}," for m in names.split(", "))
            annotation = f"Literal[\n{members}\n{space}{bracket}"
            if end:  # formatted as ruff does
                annotation = f"(\n{space}{annotation}\n{space}{end.strip()}\n    )"
        lines.append(f"    {k.name}: {annotation}")
        text = f'"""{k.doc}"""'.replace("\\", "\\\\")
        if len(text) <= 96:
            lines.append(f"    {text}")
        else:
            first, *rest = textwrap.wrap(k.doc, 93, break_long_words=False, break_on_hyphens=False)
            lines += [f'    """{first}', *(f"    {line}" for line in rest), '    """']
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    with whole_file(_TYPED) as path:
        path.write_text(typed_keywords(), encoding="utf-8")
    print(f"Written: {_TYPED}")
