"""Text files of settings, of anybody's making: YAML or JSON, without code, in bounded time."""

import json
import reprlib
from typing import Any

import yaml

from lfads_lightning.config import LFADSError

MAX_BYTES = 2**16  # of ours none has half
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxtuple = 12


def shown(value: Any) -> str:
    """Return a value as an error quotes it, cut short: it may be anything of any size."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a huge {type(value).__name__}"


def read_document(content: bytes, where: str) -> Any:
    """Return what a YAML or JSON text holds: mappings, lists, numbers and texts.

    Args:
        content: the whole file.
        where: names it in errors.

    Raises:
        LFADSError: neither YAML nor JSON, too large, nested too deeply, with tags of classes or
            with aliases, of which a few lines can make billions of values.
    """
    if len(content) > MAX_BYTES:
        raise LFADSError(
            f"{where}: has {len(content)} bytes; a file of settings has at most {MAX_BYTES}; give "
            "the right file"
        )
    try:
        text = content.decode("utf-8-sig")
        # JSON first: YAML 1.1 reads 1e-05 as a text
        if text.lstrip().startswith("{"):
            return json.loads(text)
        if "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise LFADSError(
                f"{where}: is neither YAML nor JSON of plain values: it holds aliases (*name); "
                "write the values out"
            )
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        if isinstance(error, LFADSError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise LFADSError(f"{where}: is neither YAML nor JSON ({reason})") from error
