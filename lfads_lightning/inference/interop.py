"""Models of the original implementation (TensorFlow 1): reading and writing its variable names.

Labs have many such models as ``model_params`` files. :func:`from_original` converts them to
:class:`~lfads_lightning.api.Trained` models, and ``write_model_params`` writes our weights under
the same names, so that analysis scripts keep working.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lfads_lightning.config import Config, LFADSError, SessionSpec
from lfads_lightning.inference.trained import TrainedModel
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.model.names import joined, variable_blocks
from lfads_lightning.params import from_flat

_READOUT = r"glm_fac_2_(?:logrates|means)_(.*)_W"
# run-time fields of the original's hyper-parameters; they are read here or follow from variables
_NOT_PARAMETERS = {"dataset_names", "dataset_dims", "num_steps", "ndatasets", "allow_gpu_growth"}


def from_original(
    variables: Mapping[str, np.ndarray], hps: Mapping[str, Any] | str
) -> TrainedModel:
    """Make a :class:`~lfads_lightning.api.Trained` model from one that the original trained.

    Args:
        variables: arrays by the original's variable names, spelled ``LFADS/gen/gen_2_fac/W:0`` or,
            as in ``model_params`` files, ``LFADS_gen_gen_2_fac_W:0``; optimiser slots are ignored.
        hps: its hyper-parameters, as a mapping or the JSON text of ``hyperparameters-<step>.txt``.

    Raises:
        LFADSError: a variable is missing or unknown, or its shape does not fit the parameters.
    """
    hps = _read(hps)
    arrays = {_flat(name): np.asarray(array) for name, array in variables.items()}
    config = from_flat({k: v for k, v in hps.items() if k not in _NOT_PARAMETERS}, "hps")
    if "do_legacy_ic_prior_var" not in hps:
        # the original bounds the variance by sigmoid(exp(.)): training continues with that form
        config.model.do_legacy_ic_prior_var = True
    model = LFADS(config.model, _sessions(arrays, hps, config))
    step = int(arrays.pop("global_step", 0))
    rate = float(arrays.pop("learning_rate", config.optim.learning_rate_init))
    _load(model, arrays)
    config.optim.learning_rate_init = rate
    n_bins = hps.get("num_steps")
    return TrainedModel(model, config, n_bins=None if n_bins is None else int(n_bins), step=step)


def _read(hps: Mapping[str, Any] | str) -> dict[str, Any]:
    if not isinstance(hps, str):
        return dict(hps)
    try:
        values = json.loads(hps)
    except ValueError as error:
        raise LFADSError(f"hps: is not JSON ({error}); expected the text of a "
                         "hyperparameters-<step>.txt, or a mapping") from error  # fmt: skip
    if not isinstance(values, dict):
        raise LFADSError(f"hps: is a JSON {type(values).__name__}; expected names and values")
    return values


def _flat(name: str) -> str:
    """Return a variable's name as in a model_params file, without prefix or suffix."""
    return re.sub(r":0$", "", name).replace("/", "_").removeprefix("LFADS_")


def _sessions(
    arrays: Mapping[str, np.ndarray], hps: Mapping[str, Any], config: Config
) -> list[SessionSpec]:
    dims = dict(hps.get("dataset_dims") or {})
    for name, array in arrays.items():
        found = re.fullmatch(_READOUT, name)
        if found and array.ndim == 2 and not name.startswith("LFADS_"):
            dims[found.group(1)] = array.shape[1]
    names = list(hps.get("dataset_names") or dims) or ["session"]
    if missing := [n for n in names if n not in dims] if len(names) > 1 else []:
        raise LFADSError(f"variables: no read-out for session(s) {missing}; hps names {names}")
    return [
        SessionSpec(
            name,
            # without a read-out, the factors are the log-rates
            int(dims.get(name, config.model.factors_dim)),
            config.data.ext_input_dim,
            aligned=f"x_2_infac_{name}_W" in arrays,
        )
        for name in names
    ]


@torch.no_grad()
def _load(model: LFADS, arrays: dict[str, np.ndarray]) -> None:
    arrays = {
        name: array
        for name, array in arrays.items()
        if not re.search(r"_Adam(_1)?$|^(LFADS_)?beta[12]_power$", name)
    }
    for name, parts in variable_blocks(model).items():
        array = arrays.pop(_flat(name), None)
        if array is None:
            raise LFADSError(
                f"variables: LFADS/{name}:0 is missing; the hyper-parameters require it (session "
                f"names: {list(model.sessions)})"
            )
        expected = tuple(joined(parts).shape)
        if array.shape != expected:
            raise LFADSError(
                f"variables: LFADS/{name}:0 is {array.shape}, but the hyper-parameters require "
                f"{expected}"
            )
        whole = torch.from_numpy(np.array(array)).to(parts[0])
        rows = [p.shape[0] for p in parts] if parts[0].ndim == 2 else [1]
        for p, block in zip(parts, whole.split(rows), strict=True):
            p.copy_(block.reshape(p.shape))
    if arrays:
        raise LFADSError(
            f"variables: {sorted(arrays)[:3]} ({len(arrays)} in all) have no place in a model with "
            "these hyper-parameters; check co_dim, ic_dim, do_causal_controller and the sessions"
        )
