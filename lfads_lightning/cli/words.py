"""Overrides (``group.name=value``): parsed by Hydra, and written the way they are typed."""

import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from lfads_lightning import params
from lfads_lightning.commands import override
from lfads_lightning.config import LFADSError


def parsed(overrides: Sequence[str], where: str = "command line") -> list[Override]:
    """Parse overrides by Hydra's grammar.

    Args:
        overrides: words of the command line.
        where: their source, for the error message.

    Raises:
        LFADSError: one of them does not follow the grammar.
    """
    parser = OverridesParser.create()
    found = []
    for word in overrides:
        try:
            found.append(parser.parse_override(word))
        except HydraException as error:
            raise LFADSError(f"{where}: {word!r}: {_remedy(word)}") from error
    return found


def _remedy(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return "expected group.name=value"
    if value[:1] in ("'", '"'):
        return "a quote is not closed, or closed too early"
    return (
        "has a special character or an open bracket; to pass the value as text, put it in two "
        f"pairs of quotes: {shlex.quote(override(key, value))}"
    )


def flat_as_typed(name: str, value: str) -> str:
    """Return a parameter, given by its flat name, the way it is typed into a shell."""
    return shlex.quote(override(params.dotted_names()[name], value))
