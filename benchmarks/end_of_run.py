"""Time that scoring and reporting take at the end of a run, beside that of training.

    python -m benchmarks.end_of_run --sizes 30,400,2000,100x100 [--no-report] [--json FILE]

A size is a number of neurons, or SESSIONSxNEURONS. Data are made up: 200 trials of 100 bins (of
many sessions 20 each), a quarter of the neurons held out, conditions and behaviour, so that all
scores are computed. Training is cut off after a few updates; ``end_s`` is the processor time of
what comes after them, on one thread.
"""

import argparse
import json
import tempfile
import time
import warnings

import numpy as np

from benchmarks import machine

N_BINS, N_TRIALS, N_TRIALS_OF_MANY = 100, 200, 20
HELD_OUT = 0.25


def recording(n_neurons: int, n_trials: int, seed: int) -> dict[str, np.ndarray]:
    """Make counts (E, T, D) that a two-dimensional rotation drives, with labels and behaviour."""
    rng = np.random.default_rng(seed)
    condition = np.arange(n_trials) % 4
    phase = condition * np.pi / 2 + rng.normal(0, 0.3, n_trials)
    angle = np.linspace(0, 6, N_BINS) + phase[:, None]
    state = np.stack([np.cos(angle), np.sin(angle)], axis=2)
    rates = 0.1 * np.exp(0.7 * state @ rng.standard_normal((2, n_neurons)))
    return {
        "data": rng.poisson(rates).astype(np.uint8),
        "condition": condition,
        "behaviour": state + 0.1 * rng.standard_normal(state.shape),
    }


def measure(size: str, report: bool, max_steps: int) -> dict[str, object]:
    """Train for a few updates at one size, and time what comes after them."""
    import lfads_lightning as lfads

    sessions, _, neurons = size.rpartition("x")
    n_sessions, n_neurons = int(sessions or 1), int(neurons)
    n_trials = N_TRIALS if n_sessions == 1 else N_TRIALS_OF_MANY
    made = {f"s{i:03d}": recording(n_neurons, n_trials, i) for i in range(n_sessions)}
    by_key = {key: {name: m[key] for name, m in made.items()} for key in made["s000"]}
    load = machine.load()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ended_training = 0.0

        def note(*_: object) -> None:
            nonlocal ended_training
            ended_training = time.process_time()

        from lightning.pytorch import Trainer

        fit = Trainer.fit

        def fit_and_note(self: Trainer, *args: object, **kwargs: object) -> None:
            fit(self, *args, **kwargs)  # type: ignore[arg-type]
            note()

        Trainer.fit = fit_and_note  # type: ignore[method-assign]
        try:
            trained = lfads.fit(
                by_key["data"],
                condition=by_key["condition"],
                behaviour=by_key["behaviour"],
                bin_width_s=0.01,
                held_out_neurons=HELD_OUT,
                lfads_save_dir=folder,
                max_steps=max_steps,
                co_dim=1,
                device="cpu:0",
                num_threads=1,
                report=report,
            )
        finally:
            Trainer.fit = fit  # type: ignore[method-assign]
        end_s = time.process_time() - ended_training
    return {
        "size": size,
        "report": report,
        "end_s": round(end_s, 1),
        "co_bps": round(float(trained.scores["valid/co_bps"]), 4),
        "load": load,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", default="30,400,2000,100x100")
    parser.add_argument("--no-report", action="store_true", help="with output.report=false")
    parser.add_argument("--max-steps", type=int, default=20)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    rows = []
    for size in given.sizes.split(","):
        rows.append(measure(size, not given.no_report, given.max_steps))
        print(json.dumps(rows[-1]), flush=True)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(rows, file, indent=1)
