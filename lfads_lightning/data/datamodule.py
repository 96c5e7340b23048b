"""Serving trials: batches of one session each, shuffled over sessions, with spike jitter."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lfads_lightning.data.fields import Session, Split

ABOUT_AS_LONG = 0.9, 1.1  # range of random factors on lengths before trials are sorted by them


class Batch(NamedTuple):
    """Trials of one session; with several devices, each has its part of the batch.

    T is the length of the longest trial of the batch on all devices.
    """

    session: str
    data: Tensor  # (B, T, D), counts in their storage type, or float
    ext_input: Tensor | None = None  # (B, T, I)
    never_shown: Tensor | None = None  # (B, T, D) bool, kept for sample validation
    number: int = 0  # number of the batch within its epoch
    first: int = 0  # number of trials of this batch on the devices before this one
    n_trials: int | None = None  # on all devices together; None: as many as here
    present: Tensor | None = None  # (B, T, D) bool, False where missing; None: all present
    lengths: Tensor | None = None  # (B,) bins of each trial; None: all T


class TrialIndex(NamedTuple):
    """Which trials of which session make a batch; see :class:`Batch`."""

    session: str
    trials: np.ndarray  # (B,) integers
    number: int
    first: int
    n_trials: int
    n_bins: int | None = None  # length of the longest trial on all devices; None: all


class Trials(Dataset):
    """One split of all sessions in memory; indexed by :class:`TrialIndex`.

    Args:
        splits: the splits, by session.
        never_shown: results of :func:`entries_never_shown` by session, if there are such entries.
    """

    def __init__(
        self, splits: dict[str, Split], never_shown: dict[str, np.ndarray] | None = None
    ) -> None:
        # truth, behaviour and labels are not part of a batch
        self.splits = {
            name: Split(s.data, s.ext_input, lengths=s.lengths, mask=s.mask)
            for name, s in splits.items()
        }
        self.never_shown = never_shown or {}

    def __getitem__(self, index: TrialIndex) -> Batch:
        """Gather a batch."""
        split, bits = self.splits[index.session], self.never_shown.get(index.session)
        whole = split.rows(index.trials)
        if index.n_bins is not None:
            whole = whole.trimmed(index.n_bins)
        ext, hidden, present = whole.ext_input, None, whole.present
        n_bins = whole.data.shape[1]
        if bits is not None:
            packed = bits[index.trials][:, :n_bins]
            mask = np.unpackbits(packed, axis=2, count=split.data.shape[2])
            hidden = _by_bin(mask.view(bool))
        lengths = whole.lengths
        if lengths is not None and (lengths == n_bins).all():
            lengths = None
        return Batch(
            index.session,
            _by_bin(_signed(whole.data)),
            None if ext is None else torch.from_numpy(np.ascontiguousarray(ext)),
            hidden,
            index.number,
            index.first,
            index.n_trials,
            None if present is None or present.all() else _by_bin(present),
            None if lengths is None else torch.from_numpy(lengths),
        )


def _by_bin(array: np.ndarray) -> Tensor:
    # (B, T, D), but time-major in memory, as the model needs it: now, while the type is small
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array).transpose(0, 1).contiguous().transpose(0, 1)


def entries_never_shown(
    shape: tuple[int, int, int],
    rate: float,
    seed: int,
    session: str,
    split: str,
    lengths: np.ndarray | None = None,
) -> np.ndarray:
    """Draw which entries are kept for sample validation, with a separate generator.

    Args:
        shape: (E, T, D).
        rate: share of these entries.
        seed: seed of the generator, together with the two names.
        session: name of the session.
        split: train or valid.
        lengths: (E,) bins of each trial; entries beyond them are not drawn.

    Returns:
        (E, T, ceil(D / 8)) bytes, eight neurons per byte as from ``numpy.packbits``.
    """
    n_trials, n_bins, n_neurons = shape
    rng = np.random.default_rng([seed, zlib.crc32(session.encode()), zlib.crc32(split.encode())])
    bits = np.zeros((n_trials, n_bins, -(-n_neurons // 8)), np.uint8)
    for i, n in enumerate([n_bins] * n_trials if lengths is None else lengths):
        bits[i, :n] = np.packbits(rng.random((n, n_neurons)) < rate, axis=1)  # eight bytes a draw
    return bits


def _signed(data: np.ndarray) -> np.ndarray:
    # torch cannot compute on unsigned types wider than one byte
    wider = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64}
    return data.astype(wider.get(data.dtype, data.dtype), copy=False)


class TrainingBatches(Sampler):
    """Full batches in random order, as the original draws them.

    Per session and epoch: the trials are filled up to a multiple of the batch size with trials
    drawn at random, without repetition, from the same session; all are permuted and cut into
    batches. The batches of all sessions are pooled and shuffled. The order depends on seed and
    epoch only. If trials have unequal lengths, a batch gets trials of similar length.

    Args:
        n_trials: trials of each session.
        batch_size: trials per batch; at most a session's number of trials.
        seed: seed of the order.
        part: (i, n): serve the i-th of n parts of each batch, one part per device.
        first_batch: first batch of the first epoch, if a run is continued in the middle of it.
        lengths: (E,) bins of each trial, for sessions whose trials have unequal lengths.
    """

    def __init__(
        self,
        n_trials: dict[str, int],
        batch_size: int,
        seed: int,
        part: tuple[int, int] = (0, 1),
        first_batch: int = 0,
        lengths: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.n_trials, self.batch_size, self.seed, self.epoch = n_trials, batch_size, seed, 0
        self.part, self.first_batch, self.lengths = part, first_batch, lengths or {}

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the batches per epoch."""
        return sum(-(-n // min(n, self.batch_size)) for n in self.n_trials.values())

    def __iter__(self) -> Iterator[TrialIndex]:
        """Yield the epoch's batches."""
        # now, even if no batch is taken; the epoch is set later, before the first batch is taken
        skipped, self.first_batch = self.first_batch, 0
        return self._batches(skipped)

    def _batches(self, skipped: int) -> Iterator[TrialIndex]:
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = []
        for name, n in self.n_trials.items():
            size = min(n, self.batch_size)
            padding = rng.choice(n, size=-n % size, replace=False)
            order = rng.permutation(np.concatenate([np.arange(n), padding]))
            if name in self.lengths and np.ptp(self.lengths[name]) > 0:
                # by length, but with different neighbours in each epoch
                about = self.lengths[name][order] * rng.uniform(*ABOUT_AS_LONG, len(order))
                order = order[np.argsort(about, kind="stable")]
            batches += [(name, trials) for trials in order.reshape(-1, size)]
        i, n = self.part
        for number, k in enumerate(rng.permutation(len(batches))):
            if number < skipped:
                continue
            name, trials = batches[k]
            first, end = i * len(trials) // n, (i + 1) * len(trials) // n
            n_bins = _longest(self.lengths, name, trials)
            yield TrialIndex(name, trials[first:end], number, first, len(trials), n_bins)


def _longest(lengths: Mapping[str, np.ndarray], session: str, trials: np.ndarray) -> int | None:
    return int(lengths[session][trials].max()) if session in lengths else None


class OrderedBatches(Sampler):
    """Every trial once, session by session, in file order or, if lengths differ, shortest first.

    Args:
        n_trials: trials of each session.
        batch_size: trials per batch.
        part: (i, n): serve every n-th batch from the i-th on, for the i-th device.
        lengths: as in :class:`TrainingBatches`.
    """

    def __init__(
        self,
        n_trials: dict[str, int],
        batch_size: int,
        part: tuple[int, int] = (0, 1),
        lengths: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        lengths = lengths or {}
        order = {name: np.argsort(each, kind="stable") for name, each in lengths.items()}
        starts = [(name, k) for name, n in n_trials.items() for k in range(0, n, batch_size)]
        self.batches = []
        for number, (name, start) in enumerate(starts):
            trials = np.arange(start, min(start + batch_size, n_trials[name]))
            if name in order:
                trials = order[name][trials]
            if number % part[1] == part[0]:
                n_bins = _longest(lengths, name, trials)
                self.batches.append(TrialIndex(name, trials, number, 0, len(trials), n_bins))

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[TrialIndex]:
        """Yield the batches."""
        return iter(self.batches)


def jitter_spikes(
    counts: Tensor,
    width: int,
    rng: torch.Generator | None = None,
    present: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Tensor:
    """Move every single spike in time, at random.

    A count of k is k spikes; each moves by an integer uniform on [-width, width-1], as in the
    original. Spikes that leave the trial are reflected once: -t, or 2(T-1) - t. Counts per trial
    and neuron do not change.

    Args:
        counts: (B, T, D), any integer or floating type.
        width: bins; 0 returns the input. At most T - 1 is used, so that one reflection is enough.
        rng: generator of the moves; None: torch's own.
        present: (B, T, D) bool; None: all. A spike that would move to a missing entry stays.
        lengths: (B,) bins of each trial; None: all T.

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
    moved = (t + torch.randint(-width, width, t.shape, device=t.device, generator=rng)).abs()
    last = n_bins - 1 if lengths is None else lengths[trial] - 1
    moved = torch.where(moved > last, 2 * last - moved, moved)
    if present is None:
        t = moved
    else:  # so does a spike that a short trial would reflect twice
        moved = torch.where(moved < 0, t, moved)
        t = torch.where(present[trial, moved, channel], moved, t)
    jittered = torch.zeros_like(counts, dtype=torch.float32)
    one = torch.ones((), device=counts.device)
    return jittered.index_put_((trial, t, channel), one, accumulate=True)


class LFADSDataModule(pl.LightningDataModule):
    """Trials of one or many sessions, in memory, in the smallest type that holds them.

    Args:
        sessions: read and checked, see :mod:`lfads_lightning.data.sessions`.
        batch_size: trials per batch; at most the session's number of trials.
        jitter_width: spike jitter of training batches, in bins.
        seed: seed of the training order.
        sample_validation_rate: share of the entries that are marked as never shown.
        sample_validation_seed: seed of their choice.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        batch_size: int,
        jitter_width: int = 0,
        seed: int = 0,
        sample_validation_rate: float = 0.0,
        sample_validation_seed: int = 0,
    ) -> None:
        super().__init__()
        self.sessions, self.batch_size = sessions, batch_size
        self.jitter_width, self.seed = jitter_width, seed
        self.sample_validation_rate = sample_validation_rate
        self.sample_validation_seed = sample_validation_seed
        self.first_batch = 0  # of the first epoch; set by the module when it continues a run

    def train_dataloader(self) -> DataLoader:
        """Return the training batches."""
        splits = {s.name: s.train for s in self.sessions}
        sampler = TrainingBatches(
            _n_trials(splits),
            self.batch_size,
            self.seed,
            self._part(),
            self.first_batch,
            lengths_of(splits),
        )
        self.first_batch = 0
        return self._loader(splits, sampler, "train")

    def val_dataloader(self) -> DataLoader | list:
        """Return the validation batches; an empty list if no session has validation data."""
        splits = {s.name: s.valid for s in self.sessions if s.valid is not None}
        if not splits:
            return []
        sampler = OrderedBatches(
            _n_trials(splits), self.batch_size, self._part(), lengths_of(splits)
        )
        return self._loader(splits, sampler, "valid")

    def first_validation_trials(self, n_trials: int) -> list[Batch]:
        """Return the first validation trials, a batch for each session that has any.

        Args:
            n_trials: most trials of all sessions together; each session has at least one.
        """
        splits = {s.name: s.valid for s in self.sessions if s.valid is not None}
        trials = Trials(splits, self._never_shown(splits, "valid"))
        n = max(n_trials // max(len(splits), 1), 1)
        sizes = {name: min(len(split.data), n) for name, split in splits.items()}
        lengths = lengths_of(splits)
        return [
            trials[TrialIndex(s, np.arange(k), 0, 0, k, _longest(lengths, s, np.arange(k)))]
            for s, k in sizes.items()
        ]

    def _part(self) -> tuple[int, int]:
        return (
            (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        )

    def _loader(self, splits: dict[str, Split], sampler: Sampler, split: str) -> DataLoader:
        # each pass draws a number; from torch's own generator, a continued run would draw one more
        rng = torch.Generator().manual_seed(self.seed)
        trials = Trials(splits, self._never_shown(splits, split))
        return DataLoader(trials, batch_size=None, sampler=sampler, generator=rng)

    def _never_shown(self, splits: dict[str, Split], split: str) -> dict[str, np.ndarray]:
        rate, seed = self.sample_validation_rate, self.sample_validation_seed
        if rate == 0:
            return {}
        return {
            name: entries_never_shown(held.data.shape, rate, seed, name, split, held.lengths)
            for name, held in splits.items()
        }

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Jitter training batches, on the device."""
        if self.jitter_width > 0 and self.trainer is not None and self.trainer.training:
            data, hidden = batch.data, batch.never_shown
            # from seed, update and device only: a continued run draws the same
            mixed = np.random.SeedSequence(
                [self.seed, 2, self.trainer.global_step, batch.first]
            ).generate_state(1, np.uint32)
            rng = torch.Generator(data.device).manual_seed(int(mixed[0]))
            if hidden is None:
                data = jitter_spikes(data, self.jitter_width, rng, batch.present, batch.lengths)
            else:  # no spike leaves the entries that are never shown
                moved = jitter_spikes(
                    data * ~hidden, self.jitter_width, rng, batch.present, batch.lengths
                )
                data = torch.where(hidden, data, moved)
            batch = batch._replace(data=data)
        return batch


def _n_trials(splits: dict[str, Split]) -> dict[str, int]:
    return {name: len(split.data) for name, split in splits.items()}


def lengths_of(splits: Mapping[str, Split]) -> dict[str, np.ndarray]:
    """Return the bins of each trial, for sessions whose trials have unequal lengths."""
    return {name: s.lengths for name, s in splits.items() if s.lengths is not None}
