"""Command-line options: fields of dataclasses (``commands.option``), read by argparse."""

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from lfads_lightning.cli.programs import fail, version_text
from lfads_lightning.commands import program, values_of
from lfads_lightning.config import LFADSError
from lfads_lightning.runs.remote import path_or_address

# how a value is read, and what it is called in an error and in the help
_KINDS: dict[type, tuple[Callable[[str], Any], str, str]] = {
    int: (int, "an integer", "N"),
    float: (float, "a number", "X"),
    str: (str, "text", "NAME"),
    Path: (path_or_address, "a path", "PATH"),
    datetime: (datetime.fromisoformat, "a time as 2026-01-31T14:00:00+00:00", "TIME"),
}


class _Formatter(argparse.HelpFormatter):
    """Keeps the line breaks of texts with several lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Reads the command line of a verb into keywords; errors are one line.

    Args:
        verb: name of the command.
        description: what it does.
        options: dataclasses whose fields are its options: ``bin_width_s`` is ``--bin-width-s``.
        epilog: text at the end of the help.
    """

    def __init__(self, verb: str, description: str, *options: type, epilog: str = "") -> None:
        super().__init__(
            prog=program(verb),
            description=description,
            epilog=epilog,
            formatter_class=_Formatter,
            argument_default=argparse.SUPPRESS,  # the dataclass has the default
        )
        self.add_argument("--version", action="version", version=version_text())
        for f in (f for kind in options for f in dataclasses.fields(kind)):
            self.add_argument(*_names(f), **_words(f))

    def given(self, argv: Sequence[str] | None) -> dict[str, Any]:
        """Return the options that were given, by field name; None reads ``sys.argv``."""
        words = list(sys.argv[1:] if argv is None else argv)
        options = self._option_string_actions
        for word in words:
            name = word.partition("=")[0]
            if word == "--":
                break
            if name.startswith("--") and not any(known.startswith(name) for known in options):
                near = difflib.get_close_matches(name.replace("_", "-"), options, n=1)
                self.error(
                    f"{name}: no such option" + (f"; did you mean {near[0]}?" if near else "")
                )
        found, strangers = self.parse_known_args(words)
        if strangers:
            self.error(f"unexpected argument {strangers[0]}")
        return vars(found)

    def error(self, message: str) -> NoReturn:
        """End the program with one line."""
        text = re.sub(r"^argument ([^\s:/]+)[^:]*: is ", r"\1 is ", message)
        text = re.sub(r"^argument ([^\s:/]+)[^:]*: ", r"\1: ", text)
        text = re.sub(r"^the following arguments are required: (.*)", r"\1 must be given", text)
        mark = "" if text.endswith("?") else ";"
        fail(LFADSError(f"{text}{mark} {self.prog} --help lists all options"))


def typed_name(name: str) -> str:
    """Return an option the way it is typed.

    >>> typed_name("bin_width_s")
    '--bin-width-s'
    """
    return "--" + name.replace("_", "-")


def _names(f: dataclasses.Field) -> list[str]:
    if f.metadata.get("positional"):
        return [f.name]
    return [typed_name(f.name), *f.metadata.get("also", ())]


def _words(f: dataclasses.Field) -> dict[str, Any]:
    """Return the arguments of argparse for an option."""
    kind, count = values_of(f)
    doc, choices = f.metadata["doc"], f.metadata.get("choices")
    if not f.metadata.get("positional"):
        if kind is bool:
            return {"action": "store_true", "help": doc.replace("%", "%%")}
        if f.default not in (None, (), dataclasses.MISSING):
            doc += f" (default: {f.default:g})" if kind is float else f" (default: {f.default})"
    read, expected, letter = _KINDS[kind]
    if "read" in f.metadata:
        read, expected = f.metadata["read"]
    words: dict[str, Any] = {
        "type": _reader(read, expected, choices),
        "metavar": f.metadata.get("metavar") or (f"{{{','.join(choices)}}}" if choices else letter),
        "help": doc.replace("%", "%%"),
    }
    if count is not None:
        words["nargs"] = count
    if f.metadata.get("positional"):
        return words if f.default is dataclasses.MISSING else words | {"nargs": "?"}
    if count == "+":
        words["action"] = "extend"  # repeating the option adds values
    if count == 2:
        words["metavar"] = ("FROM", "TO")
    return words | {"dest": f.name, "required": f.default is dataclasses.MISSING}


def _reader(
    read: Callable[[str], Any], expected: str, choices: Sequence[str] | None
) -> Callable[[str], Any]:
    def value(text: str) -> Any:
        if choices and text not in choices:
            near = difflib.get_close_matches(text, choices, n=1)
            listing = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise argparse.ArgumentTypeError(
                f"is {text!r}; expected {listing}" + (f"; did you mean {near[0]}?" if near else "")
            )
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"is {text!r}; expected {expected}") from error

    return value
