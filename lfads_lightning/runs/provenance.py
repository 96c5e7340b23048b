"""Records of what this user has done with a folder or a file, kept outside of it.

The folder of a run or a sweep, or a file of parameters, may come from anybody. Its contents are
data: an address in it, or a path that leads out of it, is used only if the user has typed it in
this command, or if the record of an earlier command says that it was used with this very folder.
Records lie in the user's own state directory (``XDG_STATE_HOME``, ``~/.local/state``), under the
folder's path. A number that is also in the folder (``.run_id``) tells it from another folder that
has replaced it.
"""

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lfads_lightning.config import Config, LFADSError
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.links import any_name, check_links
from lfads_lightning.runs.private import NotPrivate, others_may_write, private_folder
from lfads_lightning.runs.remote import is_url

ID = ".run_id"
STORE = "store"  # key of a record: the folder's store, kept by mirrors.py
# flat names of the parameters that say where something is
PLACES = (
    "data_dir",
    "start_from",
    "params_file",
    "lfads_save_dir",
    "space",
    "ray_address",
    "logger",
)
NOT_FOLLOWED = (
    "{where}: names {parameter}={value}, which you have not used with it on this machine (it was "
    "sent to you, moved, or made by an older version); paths and addresses in a file are used only "
    "if you have typed them; to use this one, add {typed}"
)


def record_of(path: str | Path) -> dict[str, Any]:
    """Return the record of a folder, a file or an address; empty if there is none."""
    try:
        file = _file_of(path)
        if others_may_write(file) is not None:
            return {}
        record = read_json(file)
    except (OSError, LFADSError, NotPrivate):
        return {}
    same = isinstance(record, dict) and record.get("id") == _id_of(path)
    return record if same and record.get("path") == _key(path) else {}


def remember(path: str | Path, **facts: Any) -> None:
    """Add facts to the record of a folder, a file or an address.

    If no record can be kept, the run continues; later commands must be typed in full.
    """
    record = record_of(path)
    try:
        file = _file_of(path)
    except NotPrivate as error:
        warnings.warn(
            f"{path}: no record of this command can be kept in a folder of your own ({error}); "
            "later commands will ask for the data again; set XDG_STATE_HOME to a folder of yours",
            stacklevel=2,
        )
        return
    if not is_url(path) and Path(path).is_dir() and not record:
        with whole_file(Path(path) / ID) as new:
            new.write_text(uuid.uuid4().hex)
    record |= {"path": _key(path), "id": _id_of(path)} | facts
    with whole_file(file) as new:
        new.write_text(json.dumps(record, indent=1))


def _file_of(path: str | Path) -> Path:
    name = hashlib.sha256(os.fsencode(_key(path))).hexdigest()[:32]
    return private_folder("XDG_STATE_HOME", ".local/state") / f"{name}.json"


def _key(path: str | Path) -> str:
    return str(path).rstrip("/") if is_url(path) else str(Path(path).resolve())


def identity(folder: Path) -> str:
    """Return the number in a folder's ``.run_id``, or one made from its path if it has none."""
    return _id_of(folder) or hashlib.sha256(os.fsencode(_key(folder))).hexdigest()[:32]


def _id_of(path: str | Path) -> str | None:
    if is_url(path) or not Path(path).is_dir():
        return None
    try:
        with (Path(path) / ID).open("rb") as file:
            return file.read(64).decode("ascii", "replace")
    except OSError:
        return None


def places_in(config: Config) -> dict[str, str]:
    """Return the paths and addresses in a run's config, by the parameters' flat names."""
    named = {
        "data_dir": config.data.data_dir,
        "start_from": config.optim.start_from,
        "space": config.search.space,
        "ray_address": config.search.ray_address,
        "logger": config.trainer.logger,
    }
    return {name: str(value) for name, value in named.items() if is_place(name, value)}


def is_place(name: str, value: Any) -> bool:
    """Return whether a parameter's value is a place; ``search.space`` may be a preset instead.

    The loggers wandb and mlflow count as places: they may send what they get to a server.
    """
    if name not in PLACES or not value:
        return False
    if name == "logger":
        return "wandb" in value or "mlflow" in value
    return name != "space" or str(value).endswith((".yaml", ".yml"))


def is_known(path: str | Path, name: str, value: str) -> bool:
    """Return whether a place named in a folder or a file may be used without being typed.

    It may if it was used with that folder before or lies inside it, or, for a folder that the user
    has given by an address in a store, if it lies in the same bucket.

    Args:
        path: the folder or the file.
        name: flat name of the parameter.
        value: the place.
    """
    record = record_of(path)
    if record.get("places", {}).get(name) == value:
        return True
    if name == "logger":
        return False
    if is_url(value):
        return _bucket(value) == _bucket(record.get(STORE, {}).get("url", ""))
    return not is_url(path) and _is_within(Path(path), value)


def _bucket(url: str) -> list[str]:
    return url.split("/")[:3]


def check_file_of_parameters(
    path: str | Path,
    named: Mapping[str, Any],
    typed: Mapping[str, Any],
    as_typed: Callable[[str, str], str],
) -> None:
    """Refuse the places in a file of parameters until the user has typed each of them once.

    A place that is typed and is the one in the file is remembered for this file.

    Args:
        path: path of the file.
        named: the values in the file, by flat name.
        typed: the values in the command, by flat name.
        as_typed: formats a parameter's flat name and value as a user types them.

    Raises:
        LFADSError: says what to type.
    """
    places = {n: str(v) for n, v in named.items() if is_place(n, v) and n != "params_file"}
    for name, value in places.items():
        if name not in typed and not is_known(path, name, value):
            word = as_typed(name, value)
            raise LFADSError(
                NOT_FOLLOWED.format(where=path, parameter=name, value=value, typed=word)
                + " (once; it is remembered for this file)"
            )
    if new := {n: v for n, v in places.items() if str(typed.get(n)) == v}:
        remember(path, places=record_of(path).get("places", {}) | new)


def _is_within(folder: Path, value: str) -> bool:
    """Return whether a path stays in a folder, with its links followed."""
    if not folder.is_dir() or is_url(value) or value.startswith(("~", "\\\\", "//")):
        return False
    # as text first, as in links.py
    root = folder.resolve()
    letters = Path(os.path.abspath(value))
    if not letters.is_relative_to(root) or not letters.resolve().is_relative_to(root):
        return False
    check_links(letters, root, any_name)
    return True
