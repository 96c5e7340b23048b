"""Serving trials: batches of one session each, shuffled over sessions, with spike jitter."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lfads_lightning.config import Config, LFADSError, SessionSpec
from lfads_lightning.data.session_files import load_sessions
from lfads_lightning.data.sessions import KEYS, Session, Split, sessions_from_arrays
from lfads_lightning.data.synthetic import SYNTHETIC, generate


class Batch(NamedTuple):
    """Trials of one session."""

    session: str
    data: Tensor  # (B, T, D), counts in their storage type, or float
    ext_input: Tensor | None  # (B, T, I)


class TrialIndex(NamedTuple):
    """Which trials of which session make a batch."""

    session: str
    trials: np.ndarray  # (B,) integers


class Trials(Dataset):
    """One split of all sessions in memory; indexed by :class:`TrialIndex`."""

    def __init__(self, splits: dict[str, Split]) -> None:
        self.splits = splits

    def __getitem__(self, index: TrialIndex) -> Batch:
        """Gather a batch."""
        split = self.splits[index.session]
        ext = split.ext_input
        return Batch(
            index.session,
            # (B, T, D), but bin by bin in memory, as the model lays it: now, while it is small
            torch.from_numpy(_signed(split.data[index.trials]))
            .transpose(0, 1)
            .contiguous()
            .transpose(0, 1),
            None if ext is None else torch.from_numpy(ext[index.trials]),
        )


def _signed(data: np.ndarray) -> np.ndarray:
    # torch computes on no unsigned type wider than one byte
    wider = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64}
    return data.astype(wider.get(data.dtype, data.dtype), copy=False)


class TrainingBatches(Sampler):
    """Full batches in random order, as the original draws them.

    Per session and epoch: the trials are filled up to a multiple of the batch size with trials
    drawn at random, without repetition, from the same session; all are permuted and cut into
    batches. The batches of all sessions are pooled and shuffled. Order depends on seed and epoch
    only.

    Args:
        n_trials: trials of each session.
        batch_size: cut to a session's number of trials.
        seed: of the order.
    """

    def __init__(self, n_trials: dict[str, int], batch_size: int, seed: int) -> None:
        self.n_trials, self.batch_size, self.seed, self.epoch = n_trials, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the batches per epoch."""
        return sum(-(-n // min(n, self.batch_size)) for n in self.n_trials.values())

    def __iter__(self) -> Iterator[TrialIndex]:
        """Yield the epoch's batches."""
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = []
        for name, n in self.n_trials.items():
            size = min(n, self.batch_size)
            padding = rng.choice(n, size=-n % size, replace=False)
            order = rng.permutation(np.concatenate([np.arange(n), padding]))
            batches += [TrialIndex(name, trials) for trials in order.reshape(-1, size)]
        for i in rng.permutation(len(batches)):
            yield batches[i]


class OrderedBatches(Sampler):
    """Every trial once, in file order, session by session."""

    def __init__(self, n_trials: dict[str, int], batch_size: int) -> None:
        self.n_trials, self.batch_size = n_trials, batch_size

    def __len__(self) -> int:
        """Return the number of batches."""
        return sum(-(-n // self.batch_size) for n in self.n_trials.values())

    def __iter__(self) -> Iterator[TrialIndex]:
        """Yield the batches."""
        for name, n in self.n_trials.items():
            for start in range(0, n, self.batch_size):
                yield TrialIndex(name, np.arange(start, min(start + self.batch_size, n)))


def jitter_spikes(counts: Tensor, width: int) -> Tensor:
    """Move every single spike in time, at random.

    A count of k is k spikes; each moves by an integer uniform on [-width, width-1], as in the
    original. Spikes that leave the trial are reflected once: -t, or 2(T-1) - t. Counts per trial
    and neuron are conserved.

    Args:
        counts: (B, T, D), any integer or floating type.
        width: bins; 0 returns the input. At most T - 1 is used, where one reflection is enough.

    Returns:
        (B, T, D) float32.
    """
    n_bins = counts.shape[1]
    width = min(width, n_bins - 1)
    if width <= 0:
        return counts
    where = counts.nonzero()
    copies = counts[tuple(where.T)].long()
    trial, t, channel = where.repeat_interleave(copies, dim=0).T
    t = (t + torch.randint(-width, width, t.shape, device=t.device)).abs()
    t = torch.where(t > n_bins - 1, 2 * (n_bins - 1) - t, t)
    jittered = torch.zeros_like(counts, dtype=torch.float32)
    one = torch.ones((), device=counts.device)
    return jittered.index_put_((trial, t, channel), one, accumulate=True)


class LFADSDataModule(pl.LightningDataModule):
    """Trials of one or many sessions, in memory, in the smallest type that holds them.

    Args:
        sessions: read and checked, see :mod:`lfads_lightning.data.sessions`.
        batch_size: trials per batch; cut to the session's size.
        jitter_width: bins, of training batches.
        seed: of the training order.
    """

    def __init__(
        self, sessions: Sequence[Session], batch_size: int, jitter_width: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        self.sessions, self.batch_size = sessions, batch_size
        self.jitter_width, self.seed = jitter_width, seed

    @property
    def specs(self) -> list[SessionSpec]:
        """What the model must know of the sessions."""
        return [session_spec(s) for s in self.sessions]

    def train_dataloader(self) -> DataLoader:
        """Return the training batches."""
        splits = {s.name: s.train for s in self.sessions}
        sampler = TrainingBatches(_n_trials(splits), self.batch_size, self.seed)
        return DataLoader(Trials(splits), batch_size=None, sampler=sampler)

    def val_dataloader(self) -> DataLoader | list:
        """Return the validation batches; none where no session has validation data."""
        splits = {s.name: s.valid for s in self.sessions if s.valid is not None}
        if not splits:
            return []
        return DataLoader(
            Trials(splits),
            batch_size=None,
            sampler=OrderedBatches(_n_trials(splits), self.batch_size),
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Jitter training batches, on the device."""
        if self.jitter_width > 0 and self.trainer is not None and self.trainer.training:
            batch = batch._replace(data=jitter_spikes(batch.data, self.jitter_width))
        return batch


def session_spec(session: Session) -> SessionSpec:
    """Return what the model must know of a session."""
    ext = session.train.ext_input
    return SessionSpec(
        session.name,
        session.data_dim,
        0 if ext is None else ext.shape[2],
        aligned=session.alignment_matrix_cxf is not None,
    )


def _n_trials(splits: dict[str, Split]) -> dict[str, int]:
    return {name: len(split.data) for name, split in splits.items()}


def load_data(config: Config) -> list[Session]:
    """Read the sessions that a config names, or generate the embedded data set of that name.

    Raises:
        LFADSError: no such files, or something in them is not as it must be.
    """
    name = config.data.data_filename_stem
    asked = {
        "output_dist": config.model.output_dist.name,
        "ext_input_dim": config.data.ext_input_dim,
        "factors_dim": config.model.factors_dim,
    }
    if config.data.data_dir is not None:
        return load_sessions(config.data.data_dir, name, **asked)  # type: ignore[arg-type]
    if not name:
        raise LFADSError(
            "data.data_dir is not set: this model was trained on arrays from Python; give "
            "data.data_dir=FOLDER data.data_filename_stem=STEM"
        )
    if name not in SYNTHETIC:
        raise LFADSError(
            f"data.data_filename_stem={name!r}: data.data_dir is not set, and no embedded data set "
            f"has this name (they are {', '.join(SYNTHETIC)}); set data.data_dir to your folder"
        )
    by_key: dict[str, dict[str, np.ndarray]] = {}
    for session, arrays in generate(name).items():
        for key in set(KEYS) & arrays.keys():
            by_key.setdefault(key, {})[session] = arrays[key]
    train, valid = by_key.pop("train_data"), by_key.pop("valid_data")
    return sessions_from_arrays(train, valid, **asked, **by_key)  # type: ignore[arg-type]
