"""Overrides, ``group.name=value``: read by Hydra's grammar, and written as they are typed."""

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
        overrides: words.
        where: they stand.

    Raises:
        LFADSError: one of them is not of it.
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
        return "has a quote that is not closed, or is closed too early"
    return (
        "has a special character, or brackets that are not closed; a value that is a text goes in "
        f"two pairs of quotes: {shlex.quote(override(key, value))}"
    )


def flat_as_typed(name: str, value: str) -> str:
    """Return a parameter, by its flat name, as it is typed into a shell."""
    return shlex.quote(override(params.dotted_names()[name], value))
