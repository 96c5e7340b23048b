"""Texts for the terminal and for messages: commands as typed, lists, values, times."""

import dataclasses
import difflib
import re
import reprlib
import shlex
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxtuple = 12
_NO_TEXTS = ("null", "true", "false", "inf", "nan")  # unquoted, Hydra reads these as values


def option(default: Any = dataclasses.MISSING, doc: str = "", **more: Any) -> Any:
    """Declare an option of a command as a field of a dataclass; its type says what it takes.

    Args:
        default: without one, the option is required.
        doc: its meaning, for the help.
        **more: ``choices``; ``metavar``, the placeholder for a value in the help; ``also``, other
            spellings; ``positional``; ``read``, a parser for values that the type cannot describe:
            a function that raises ValueError, and the text of what it expects.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, **more})


def values_of(f: dataclasses.Field) -> tuple[type, int | str | None]:
    """Return the type of an option's values and their number: None: one, ``"+"``: one or more."""
    kind = _without_none(f.type)
    count: int | str | None = None
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        kind, count = _without_none(first), "+" if others == [...] else 1 + len(others)
    return kind, count


def _without_none(annotation: Any) -> Any:
    """Return the type without None; for ``str | Path`` (an address or a path), the path."""
    if get_origin(annotation) is UnionType:
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return Path if Path in kinds else kinds[0]
    return annotation


def program(verb: str = "train") -> str:
    """Return one of our programs as the user calls it, quoted for a shell.

    The program that is running is spelled as the user typed it: ``lfads check``, ``lfads-check``,
    or ``python train.py``, with its folder if one was typed. The others, and all of them when
    called from Python, are ``lfads`` and the verb.
    """
    called = Path(sys.argv[0])
    if called.name == "train.py" and verb == "train":
        # in pytest and in a sweep's workers, only the name is known
        python = sys.orig_argv[0] if sys.argv[0] in sys.orig_argv else "python"
        return shlex.join([_on_path(python, "python"), sys.argv[0]])
    if called.name == f"lfads-{verb}":
        return shlex.quote(_on_path(str(called)))
    if called.name == "lfads" or called.name.startswith("lfads-"):
        return f"{shlex.quote(_on_path(str(called.with_name('lfads'))))} {verb}"
    return f"lfads {verb}"


def _on_path(path: str, *names: str) -> str:
    """Return the name under which a shell finds the program at ``path``, else the path."""
    for name in (Path(path).name, *names):
        found = shutil.which(name)
        if found is not None and Path(found).absolute() == Path(path).absolute():
            return name
    return path


def to_train(*words: str) -> str:
    r"""Return a command that trains or uses a model, to be pasted into a shell.

    >>> to_train(override("output.lfads_save_dir", "my run"), "trainer.max_epochs=10")
    'lfads train \'output.lfads_save_dir="my run"\' trainer.max_epochs=10'
    """
    return " ".join([program(), *map(shlex.quote, words)])


def override(name: str, value: object) -> str:
    r"""Return ``name=value`` for the command line, whatever characters the value has.

    It follows Hydra's grammar, and is not yet quoted for a shell.

    >>> print(override("output.lfads_save_dir", "outputs/2026-01-31/12-00-00"))
    output.lfads_save_dir=outputs/2026-01-31/12-00-00
    >>> print(override("output.lfads_save_dir", "Anna's, 2nd"))
    output.lfads_save_dir="Anna's, 2nd"
    """
    text = str(value)
    if re.fullmatch(r"[A-Za-z/._][\w/.:+-]*", text, re.ASCII) and text.lower() not in _NO_TEXTS:
        return f"{name}={text}"
    text = not_interpolated(text)
    # a backslash stands for itself, except before a quote
    text = re.sub(r'(\\*)("|\Z)', lambda m: 2 * m[1] + (r"\"" if m[2] else ""), text)
    return f'{name}="{text}"'


def not_interpolated(text: str) -> str:
    """Escape a text for OmegaConf, where ``${x}`` would be the value of parameter x."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def listed(items: Collection[object], most: int = 5) -> str:
    """List the first few items and count the others."""
    shown = ", ".join(str(item) for item in list(items)[:most]) or "nothing"
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


def nearest(word: str, known: Collection[str]) -> str:
    """Ask whether the nearest known word was meant."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def shown(value: Any) -> str:
    """Return a value as an error message quotes it, shortened: it may be anything of any size."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer with more digits than Python converts
        return f"a huge {type(value).__name__}"


def duration(seconds: float, hours: bool = False) -> str:
    """Return a time as m:ss, or as h:mm:ss from an hour on; with ``hours`` always as h:mm:ss.

    >>> duration(75), duration(75, hours=True), duration(3600)
    ('1:15', '0:01:15', '1:00:00')
    """
    m, s = divmod(round(seconds), 60)
    h, m_of_hour = divmod(m, 60)
    return f"{h}:{m_of_hour:02d}:{s:02d}" if h or hours else f"{m}:{s:02d}"
