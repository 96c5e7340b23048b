"""Files of parameters: flat YAML or JSON, spelled as here or as in the LFADS documentation."""

from pathlib import Path
from typing import Any

from lfads_lightning.config import LFADSError, Recipe
from lfads_lightning.params import canonical, check_value
from lfads_lightning.runs.documents import MAX_BYTES, read_document
from lfads_lightning.runs.remote import is_url, read_text

# The original writes these, derived from the data, into its hyper-parameter file as well.
_RUN_TIME_FIELDS = {"dataset_names", "dataset_dims", "num_steps", "ndatasets", "allow_gpu_growth"}

# A file of parameters is used as it is, unless it sets recipe itself.
OF_FILES = {"recipe": Recipe.original}


def read_params_file(path: str | Path) -> dict[str, Any]:
    """Read a flat YAML or JSON file of parameter names.

    Names may be spelled as on the documentation page (``Ic_dim``, ``do_train_prior_ar_atau_``);
    the original's ``hyperparameters-<step>.txt`` is such a file too.

    Returns:
        Flat canonical names with their checked values.

    Raises:
        LFADSError: there is no such file, it is not a flat mapping, or a name or value is wrong.
    """
    try:
        if is_url(path):
            content = read_text(str(path)).encode()
        else:
            with Path(path).open("rb") as file:  # it may be an endless device
                content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise LFADSError(
            f"params_file={path}: cannot be read ({error.strerror}); give the path of a YAML or "
            "JSON file of parameter names"
        ) from error
    values = read_document(content, str(path))
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise LFADSError(
            f"{path}: holds a {type(values).__name__}; expected one 'name: value' per line"
        )
    flat: dict[str, Any] = {}
    for given, value in values.items():
        if given in _RUN_TIME_FIELDS:
            continue
        name = canonical(str(given), str(path))
        if name in flat:
            raise LFADSError(f"{path}: {name} is given twice (as {given!r} too); keep one")
        flat[name] = check_value(name, value, str(path))
    return flat
