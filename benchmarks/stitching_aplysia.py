"""One model of three aplysia bouts beside a model for each (prints JSON).

    python -m benchmarks.stitching_aplysia FOLDER --seeds 0 1 2

FOLDER holds aplysia_*.npz: three bouts of one preparation, the same 160 neurons, twelve
consecutive pieces of 10 s each. Scored is co-smoothing where nothing was trained on: bits per spike
(``co_bps``) of 40 neurons that no encoder sees, in four pieces of each bout that are in no loss, no
alignment and no choice, averaged over the bouts; null: each neuron's mean over these pieces of its
bout. A seed draws the neurons, the pieces and the weights. The scored pieces are every third, from
another one on in each bout and with each seed, so that seeds 0 1 2 score every piece of every bout
once. Of the eight others, two choose (a model's epoch by its validation cost, a baseline's width
and penalty), and 2, 4 or 6 are trained on.

``stitched`` is one model of the three bouts, ``single`` are three models, all aligned by their
neurons (same_neurons: one start for read-in and read-out); ``pooled`` takes all pieces for those of
one session, with one read-in and read-out. All have the same settings, tuned on seeds from 100 on,
and at most as many updates each; training pieces are cut into overlapping chops. ``glm`` is Poisson
regression of the held-out neurons on the smoothed others, ``fa`` the same on factors of these
(factor analysis, as many as the models have): of each bout alone, and of all pooled, with an
intercept for each bout.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.decomposition import FactorAnalysis

import lfads_lightning as lfads
from lfads_lightning.data.alignment import align_same_neurons
from lfads_lightning.data.sessions import ALIGNMENT_KEYS, Session, Split
from lfads_lightning.metrics import Design, co_bps, poisson_nll, smooth
from lfads_lightning.recordings.chops import plan_chops

SETTINGS = {
    # neurons fire together within a bin or two: many fast inputs, seen at once, at little cost
    "co_dim": 8,
    "controller_input_lag": 0,
    "prior_ar_atau": 2.0,
    "kl_co_weight": 0.05,
    "kl_ic_weight": 0.05,
    "coordinated_dropout_rate": 0.3,
    "factors_dim": 8,
    "gen_dim": 64,
    "con_dim": 64,
    "ci_enc_dim": 64,
    "ic_dim": 16,
    "ic_enc_dim": 32,
    "batch_size": 8,
    "kl_increase_steps": 150,
    "l2_increase_steps": 150,
    "l2_gen_scale": 1.0,
    "do_log_readout_bias": True,
    "learning_rate_init": 0.005,
    "max_steps": 750,
    "device": "cpu:0",
    "num_threads": 1,
    "report": False,
}
N_HELD_OUT = 40
N_CHOOSING = 2
N_TRAINING = (2, 4, 6)
CHOP_BINS, OVERLAP_BINS = 25, 20
N_SAMPLES = 30
WIDTHS = (1.0, 2.0)  # bins; of seeds 100 to 102, 4 and 8 were never chosen
PENALTIES = {"glm": (0.1, 0.3, 1.0), "fa": (0.001, 0.01, 0.1)}


class Bout(NamedTuple):
    """Counts (pieces, bins, neurons), and what its pieces are for."""

    counts: np.ndarray
    train: np.ndarray
    choose: np.ndarray
    score: np.ndarray


def split(
    recordings: dict[str, np.ndarray], seed: int, n_training: int
) -> tuple[list[int], dict[str, Bout]]:
    """Draw the held-out neurons, the same in all bouts, and what the pieces are for."""
    rng = np.random.default_rng(seed)
    n_neurons = next(iter(recordings.values())).shape[2]
    held_out = np.sort(rng.choice(n_neurons, N_HELD_OUT, replace=False)).tolist()
    bouts = {}
    for i, (name, counts) in enumerate(recordings.items()):
        scored = np.arange(len(counts)) % 3 == (seed + i) % 3
        others = rng.permutation(np.flatnonzero(~scored))
        choose, train = others[:N_CHOOSING], others[N_CHOOSING:][:n_training]
        bouts[name] = Bout(counts, np.sort(train), np.sort(choose), np.flatnonzero(scored))
    return held_out, bouts


def lfads_rows(
    bouts: dict[str, Bout], held_out: list[int], seed: int, settings: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what stitched, single and pooled models score."""
    each = {name: name for name in bouts}
    whole, step = _scores(bouts, each, held_out, seed, settings)
    yield "stitched", _row(whole, [step])
    alone = [_scores({n: b}, each, held_out, seed, settings) for n, b in bouts.items()]
    yield "single", _row([score for scores, _ in alone for score in scores], [s for _, s in alone])
    one = dict.fromkeys(bouts, "all")
    pooled, step = _scores(bouts, one, held_out, seed, settings)
    yield "pooled", _row(pooled, [step])


def _scores(
    bouts: dict[str, Bout],
    sessions: dict[str, str],
    held_out: list[int],
    seed: int,
    settings: dict[str, Any],
) -> tuple[list[float], int]:
    """Train one model, each bout in the session named; return co-bps by bout, and its update."""
    train: dict[str, list[np.ndarray]] = {}
    valid: dict[str, list[np.ndarray]] = {}
    for name, b in bouts.items():
        train.setdefault(sessions[name], []).append(_chops(b.counts[b.train], OVERLAP_BINS))
        valid.setdefault(sessions[name], []).append(_chops(b.counts[b.choose], 0))
    data = {name: np.concatenate(parts) for name, parts in train.items()}
    aligned = align_same_neurons(
        [Session(name, Split(x)) for name, x in data.items()], settings["factors_dim"]
    )
    with tempfile.TemporaryDirectory() as folder:
        model = lfads.fit(
            data,
            valid_data={name: np.concatenate(parts) for name, parts in valid.items()},
            held_out_neurons=held_out,
            seed=seed,
            lfads_save_dir=folder,
            # of one bout an epoch has a third of the updates: the rule looks back over as many
            learning_rate_n_to_compare=6 if len(bouts) > 1 else 18,
            **{key: getattr(aligned, key) for key in ALIGNMENT_KEYS},
            **settings,
        )
    scores = []
    for name, b in bouts.items():
        counts = {sessions[name]: _chops(b.counts[b.score], 0)}
        (found,) = model.posterior_sample_and_average(counts, N_SAMPLES).values()
        scores.append(co_bps(found.rates, *counts.values(), held_out))
    return scores, model.step


def _chops(pieces: np.ndarray, overlap: int) -> np.ndarray:
    n_pieces, n_bins, n_neurons = pieces.shape
    starts = plan_chops(np.full(n_pieces, n_bins), CHOP_BINS, overlap).starts
    return pieces.reshape(-1, n_neurons)[starts[:, None] + np.arange(CHOP_BINS)]


def baseline_rows(
    bouts: dict[str, Bout], held_out: list[int], n_factors: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the baselines score, of bouts alone and pooled."""
    alone = [{name: b} for name, b in bouts.items()]
    for method in PENALTIES:
        scores = [_baseline(method, one, held_out, n_factors)[0] for one in alone]
        yield f"{method} single", _row(scores)
        yield f"{method} pooled", _row(_baseline(method, bouts, held_out, n_factors))


def _baseline(
    method: str, bouts: dict[str, Bout], held_out: list[int], n_factors: int
) -> list[float]:
    """Return co-bps by bout, at the width and penalty that cost least in the choosing pieces."""
    best, lowest = [], np.inf
    for width in WIDTHS:
        x = {n: smooth(np.delete(b.counts, held_out, axis=2), width) for n, b in bouts.items()}
        if method == "fa":
            x = _factors(x, bouts, n_factors)
        # which bout a piece is of
        x = {
            n: np.concatenate([v, np.broadcast_to(own, (*v.shape[:2], len(own)))], axis=2)
            for (n, v), own in zip(x.items(), np.eye(len(x)), strict=True)
        }
        train_x = np.concatenate([x[n][b.train] for n, b in bouts.items()])
        train_y = np.concatenate([b.counts[b.train][..., held_out] for b in bouts.values()])
        other_x = np.concatenate([x[n][[*b.choose, *b.score]] for n, b in bouts.items()])
        design = Design(train_x, train_y.shape[-1])
        for penalty in PENALTIES[method]:
            rates = np.split(design.fit(train_y, penalty).rates(other_x), len(bouts))
            cost, scores = 0.0, []
            for r, b in zip(rates, bouts.values(), strict=True):
                cost += poisson_nll(r[:N_CHOOSING], b.counts[b.choose][..., held_out])
                counts = b.counts[b.score][..., held_out]
                scores.append(co_bps(r[N_CHOOSING:], counts, list(range(len(held_out)))))
            if cost < lowest:
                best, lowest = scores, cost
    return best


def _factors(
    x: dict[str, np.ndarray], bouts: dict[str, Bout], n_factors: int
) -> dict[str, np.ndarray]:
    x = {n: np.sqrt(v) for n, v in x.items()}
    rows = np.concatenate([x[n][b.train] for n, b in bouts.items()])
    model = FactorAnalysis(n_factors, svd_method="randomized", random_state=0)
    model.fit(rows.reshape(-1, rows.shape[2]))
    return {
        n: model.transform(v.reshape(-1, v.shape[2])).reshape(*v.shape[:2], -1)
        for n, v in x.items()
    }


def _row(scores: list[float], updates: list[int] | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "co_bps": round(float(np.mean(scores)), 4),
        "by_bout": [round(x, 3) for x in scores],
    }
    return row if updates is None else row | {"updates_of_chosen": updates}


def main() -> None:
    """Read the command line, train, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pieces", type=int, nargs="+", default=N_TRAINING, help="trained on")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="other settings")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    settings = SETTINGS | {k: json.loads(v) for k, v in (w.split("=") for w in given.set)}
    recordings = {}
    for path in sorted(given.folder.glob("aplysia_*.npz")):
        with np.load(path, allow_pickle=False) as file:
            recordings[path.stem.split("_")[1]] = file["counts"]
    rows: dict[str, dict[str, Any]] = {}
    for seed in given.seeds:
        for n_training in given.pieces:
            held_out, bouts = split(recordings, seed, n_training)
            made = rows[f"seed {seed}, {n_training} pieces"] = {}
            made |= baseline_rows(bouts, held_out, settings["factors_dim"])
            for name, row in lfads_rows(bouts, held_out, seed, settings):
                made[name] = row
                print(seed, n_training, name, json.dumps(row), file=sys.stderr, flush=True)
    print(json.dumps({"settings": settings, "cpu_seconds": round(time.process_time()),
                      "rows": rows}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
