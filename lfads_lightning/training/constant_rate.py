"""Is a trained model better than a constant rate? If not, the run's model is the constant rate.

A model that starts at the mean rates (``model.do_start_at_mean_rates``) is a constant rate before
its first update, apart from its random read-out. So the constant rate competes with the epochs, by
the same criterion: on a recording of a few spikes every epoch may be worse.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lfads_lightning.config import Config, Criterion
from lfads_lightning.data.datamodule import LFADSDataModule
from lfads_lightning.data.sessions import Session
from lfads_lightning.model.layers import session_layer
from lfads_lightning.model.lfads import LFADS
from lfads_lightning.runs.names import checkpoint_name
from lfads_lightning.runs.run import Run
from lfads_lightning.training.checkpoint_files import (
    LOWEST,
    load_checkpoint,
    read_index,
    require_checkpoint,
    write_checkpoint,
    write_index,
)
from lfads_lightning.training.fit import Fitted
from lfads_lightning.training.hidden import NAME, hidden_entries
from lfads_lightning.training.loop import moments_of, new_model

SURE = 1.0  # standard errors, over validation trials, by which a model must be better


def unless_better(
    config: Config, sessions: Sequence[Session], folder: Path, fitted: Fitted
) -> Fitted:
    """Return the trained model, or the constant rate if the model is no better.

    The constant rate then becomes the newest checkpoint of ``checkpoint_lve``, with 0 updates. The
    checkpoint of the best epoch is kept next to it, for when the run is continued.

    Args:
        config: parameters of the run; nothing happens unless it starts at the mean rates and
            chooses the best epoch by ``hidden_recon``.
        sessions: read and checked.
        folder: the run's folder.
        fitted: the result of training.
    """
    is_asked = config.model.do_start_at_mean_rates and config.optim.start_from is None
    is_judged = fitted.chosen_by == NAME and config.trainer.criterion is Criterion.hidden_recon
    if not is_asked or not is_judged:
        return fitted
    device = fitted.model.factor_weight.device
    constant = constant_model(config, sessions)
    if constant is None:
        return fitted
    constant.to(device)
    constant.passes = fitted.model.passes
    cfg = config.data
    data = LFADSDataModule(
        sessions,
        cfg.batch_size,
        sample_validation_rate=cfg.sample_validation_rate,
        sample_validation_seed=cfg.sample_validation_seed,
    )
    entries = hidden_entries(data, config, device)
    assert entries is not None  # they chose the epoch
    of_constant = entries.look(constant)
    if is_better(entries.look(fitted.model), of_constant):
        return fitted
    _save(constant, folder, config)
    criterion = float(of_constant.mean())
    valid = {NAME: criterion}
    return fitted._replace(
        model=constant, step=0, criterion=criterion, valid=valid, is_constant=True
    )


def constant_model(config: Config, sessions: Sequence[Session]) -> LFADS | None:
    """Return an untrained model whose rates are each channel's mean in every trial.

    None if the factors are the log-rates themselves: then no read-out can hold the means.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = new_model(config, sessions)
    for session in sessions:
        readout = session_layer(model.readout, session.name)
        if readout is None:
            return None
        layers = [readout, *(session_layer(x, session.name) for x in model.extra_readouts.values())]
        with torch.no_grad():
            for weight in (getattr(layer, "weight", None) for layer in layers):
                if weight is not None:  # some layers are one number per channel
                    weight.zero_()
            means = moments_of(session.train.known).mean
            n_bins = len(session.train.data) * session.n_bins
            if (bias := model.noise_model.constant_bias(means, n_bins)) is not None:
                readout.bias.copy_(bias)
    return model


def is_better(model: Tensor, constant: Tensor) -> bool:
    """Return whether a model is better than a constant rate by more than noise.

    >>> is_better(torch.tensor([3.0, 4.0, 5.0]), torch.tensor([6.0, 6.0, 6.0]))
    True
    >>> is_better(torch.tensor([3.0, 6.0, 8.0]), torch.tensor([6.0, 6.0, 6.0]))
    False

    Args:
        model: (E,), -log p of each trial under the model.
        constant: (E,), -log p of the same trials under the constant rate.
    """
    gains = (constant - model).double()
    error = float(gains.std()) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    return float(gains.mean()) > SURE * error


def _save(model: LFADS, folder: Path, config: Config) -> None:
    """Save a model as the newest checkpoint of the lowest criterion."""
    where = Run(folder).checkpoints
    saved = load_checkpoint(require_checkpoint(folder, LOWEST))
    saved["state_dict"] = {f"model.{name}": value for name, value in model.state_dict().items()}
    saved["lfads"] |= {"step": 0, "metrics": {}}
    for name in ("optimizer_states", "trained_weights"):  # they belong to the trained weights
        saved.pop(name, None)
    name = checkpoint_name(config.output.checkpoint_name, 0, is_lowest=True)
    write_checkpoint(saved, where / name)
    others = [n for n in read_index(where, LOWEST) if n != name]
    write_index(where, LOWEST, [*others, name])
