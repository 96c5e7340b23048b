"""Words for terminal and messages: commands as the user types them, lists, values, times."""

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
_NO_TEXTS = ("null", "true", "false", "inf", "nan")  # written so, Hydra takes them for values


def option(default: Any = dataclasses.MISSING, doc: str = "", **more: Any) -> Any:
    """Declare an option of a tool as a field of a dataclass; its type says what it takes.

    Args:
        default: without one, it must be given.
        doc: what it means, for the help.
        **more: ``choices``; ``metavar``, what stands for a value in the help; ``also``, other
            spellings; ``positional``; ``read``, how a text is read that the type does not say:
            a function that raises ValueError, and what it expects.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, **more})


def values_of(f: dataclasses.Field) -> tuple[type, int | str | None]:
    """Return the type of an option's values, and how many it takes: None is one, ``"+"`` some."""
    kind = _without_none(f.type)
    count: int | str | None = None
    if get_origin(kind) is tuple:
        first, *others = get_args(kind)
        kind, count = _without_none(first), "+" if others == [...] else 1 + len(others)
    return kind, count


def _without_none(annotation: Any) -> Any:
    """Return the type of a value; of ``str | Path``, an address or a path, the path."""
    if get_origin(annotation) is UnionType:
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return Path if Path in kinds else kinds[0]
    return annotation


def program(verb: str = "train") -> str:
    """Return one of our programs as the user calls it, quoted for a shell.

    The one that was called is spelled as it was: ``lfads check``, ``lfads-check``, or ``python
    train.py``, with the folder where one was typed. The others, and all for who calls us from
    Python, are ``lfads`` and the verb.
    """
    called = Path(sys.argv[0])
    if called.name == "train.py" and verb == "train":
        # pytest and workers of a sweep have the name only
        python = sys.orig_argv[0] if sys.argv[0] in sys.orig_argv else "python"
        return shlex.join([_on_path(python, "python"), sys.argv[0]])
    if called.name == f"lfads-{verb}":
        return shlex.quote(_on_path(str(called)))
    if called.name == "lfads" or called.name.startswith("lfads-"):
        return f"{shlex.quote(_on_path(str(called.with_name('lfads'))))} {verb}"
    return f"lfads {verb}"


def _on_path(path: str, *names: str) -> str:
    """Return the name by which a shell finds the program at ``path``, else the path."""
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
    r"""Return ``name=value`` for the command line, whatever letters the value has.

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
    # a backslash stands for itself, but before a quote
    text = re.sub(r'(\\*)("|\Z)', lambda m: 2 * m[1] + (r"\"" if m[2] else ""), text)
    return f'{name}="{text}"'


def not_interpolated(text: str) -> str:
    """Return a text as OmegaConf takes it for one; ``${x}`` would be the value of parameter x."""
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
    """Return a value as an error quotes it, cut short: it may be anything of any size."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a huge {type(value).__name__}"


def duration(seconds: float, hours: bool = False) -> str:
    """Return a time as m:ss, or as h:mm:ss from an hour on; with ``hours`` always as h:mm:ss.

    >>> duration(75), duration(75, hours=True), duration(3600)
    ('1:15', '0:01:15', '1:00:00')
    """
    m, s = divmod(round(seconds), 60)
    h, m_of_hour = divmod(m, 60)
    return f"{h}:{m_of_hour:02d}:{s:02d}" if h or hours else f"{m}:{s:02d}"
