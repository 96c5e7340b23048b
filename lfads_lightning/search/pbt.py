"""Population-based training (Jaderberg et al. 2017), as AutoLFADS does it (Keshtkaran et al. 2022).

A population trains for a generation. Each member is then compared with a random rival, and if it is
worse, it takes over the rival's weights and optimiser state, and its settings with a perturbation.
The search ends when the best score stops improving.

``search.json`` is the journal: it has the plan of each generation before the first member starts,
and the scores once the last member is done. What a member has finished is in its own folder. So a
search that is killed at any moment continues where it was and gives the same result.
"""

import csv
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lfads_lightning import params
from lfads_lightning.commands import duration
from lfads_lightning.config import Config, LFADSError, Recipe
from lfads_lightning.data.datamodule import TrainingBatches
from lfads_lightning.data.sessions import Session
from lfads_lightning.runs.documents import read_json
from lfads_lightning.runs.files import whole_file
from lfads_lightning.runs.run import Search
from lfads_lightning.runs.signals import Preempted
from lfads_lightning.search import engines
from lfads_lightning.search.members import Task, valid_of
from lfads_lightning.search.space import Range
from lfads_lightning.training.checkpoints import tell_to_continue

_NEEDS_INPUTS = ("kl_co_weight", "l2_con_scale", "co_mean_corr_scale")


def search(
    config: Config, sessions: Sequence[Session], folder: Path, space: Sequence[Range]
) -> dict[str, Any]:
    """Run a search, or continue the one in ``folder``.

    Args:
        config: parameters of the search, and those of its members that the space does not name.
        sessions: read and checked.
        folder: the search's folder.
        space: the parameters to search.

    Returns:
        For the best member of all generations: ``member``, ``generation``, ``score``, ``settings``,
        ``until_epoch``, ``valid`` (its validation metrics) and ``checkpoint`` (its path); and the
        ``seconds`` that the search took.

    Raises:
        LFADSError: no validation data; a journal of another search; what training raises.
    """
    if all(s.valid is None for s in sessions):
        raise LFADSError(
            f"{sessions[0].source}: has no valid_data, which the search compares its members on; "
            "put some of the trials there"
        )
    space = [r for r in space if config.model.co_dim > 0 or r.name not in _NEEDS_INPUTS]
    journal = _Journal(folder, config, space, _burn_in(config, sessions))
    members = engines.start(config, sessions, folder)
    try:
        while journal.has_work():
            tasks, started = journal.tasks(), time.monotonic()
            scores = {}
            for task, score in members.train(tasks):
                scores[task.member] = score
                _tell(task, score, len(scores), config)
            seconds = time.monotonic() - started
            journal.finish_generation([scores[t.member] for t in tasks], seconds)
            Search(folder).push()
            journal.tell(seconds)
    except (KeyboardInterrupt, Preempted):
        tell_to_continue(folder, "Interrupted and saved", config)
        raise
    finally:
        members.close()
    return journal.best()


def _burn_in(config: Config, sessions: Sequence[Session]) -> int:
    """Return the epochs of the first generation: members cannot be compared within the ramps."""
    if config.search.burn_in_epochs is not None:
        return config.search.burn_in_epochs
    n_trials = {s.name: len(s.train.data) for s in sessions}
    updates = len(TrainingBatches(n_trials, config.data.batch_size, 0))
    loss = config.loss
    kl, l2 = (
        loss.kl_start_step + loss.kl_increase_steps,
        loss.l2_start_step + loss.l2_increase_steps,
    )
    return -(-max(kl, l2) // updates) + config.search.generation_epochs


class _Journal:
    """Plans and results of the generations; every change is on disk before it takes effect."""

    def __init__(
        self, folder: Path, config: Config, space: Sequence[Range], burn_in_epochs: int
    ) -> None:
        self.folder, self.config, self.space = folder, config, space
        self.files = Search(folder)
        self.burn_in_epochs = burn_in_epochs
        searched = {
            "seed": config.seed,
            "population": config.search.population,
            "space": [list(r._replace(init=r.starts)) for r in space],
        }
        try:
            self.state = read_json(self.files.journal)
            before = self.state["search"]
        except FileNotFoundError:
            self.state = {"format": 1, "search": searched, "generations": [], "best": None}
            before = None
        except (ValueError, TypeError, KeyError) as error:
            raise LFADSError(
                f"{self.files.journal}: is not a search's journal ({error}); start in another "
                "output.lfads_save_dir"
            ) from error
        searched = json.loads(json.dumps(searched))  # as it is read back from the journal
        if before is not None and before != searched:
            changed = [k for k in searched if before.get(k) != searched[k]]
            raise LFADSError(
                f"{folder}: holds a search with another {' and '.join(changed)}; continue it as it "
                "was, or start in another output.lfads_save_dir"
            )
        if (problem := self._problem()) is not None:
            raise LFADSError(
                f"{self.files.journal}: is damaged ({problem}); start in another "
                "output.lfads_save_dir"
            )
        if not self.state["generations"]:
            self._plan_first()

    def _problem(self) -> str | None:
        """Say which part of the journal is not what :meth:`_write` writes; None if all is well."""
        generations, best = self.state.get("generations"), self.state.get("best", 0)
        if not isinstance(generations, list) or not all(map(self._is_plan, generations)):
            return "its generations are unreadable"
        if best is not None and not (
            isinstance(best, dict)
            and self._is_settings(best.get("settings"))
            and _are_numbers(best.get(k) for k in ("member", "generation", "score", "until_epoch"))
            and isinstance(best.get("valid"), dict)
            and _are_numbers(best["valid"].values())
        ):
            return "its best member is unreadable"
        return None if _are_numbers([self.state.get("seconds", 0.0)]) else "seconds is no number"

    def _is_plan(self, plan: Any) -> bool:
        n = self.config.search.population
        if not isinstance(plan, dict) or not {"donors", "settings", "best_so_far"} <= plan.keys():
            return False
        donors, settings, scores = plan["donors"], plan["settings"], plan.get("scores", 0)
        lists = [donors, settings] + ([] if scores is None else [scores])
        if not all(isinstance(values, list) and len(values) == n for values in lists):
            return False
        return (
            all(type(m) is int and 0 <= m < n for m in donors)
            and all(map(self._is_settings, settings))
            and _are_numbers(s for s in [*(scores or ()), plan["best_so_far"]] if s is not None)
            and type(plan.get("until_epoch")) is int
        )

    def _is_settings(self, settings: Any) -> bool:
        names = [r.name for r in self.space]
        return (
            isinstance(settings, dict) and [*settings] == names and _are_numbers(settings.values())
        )

    @property
    def generations(self) -> list[dict[str, Any]]:
        return self.state["generations"]

    def has_work(self) -> bool:
        """Return whether there is a generation to train; plan it if the last one has ended."""
        return self.generations[-1]["scores"] is None or self._plan_next()

    def tasks(self) -> list[Task]:
        """Return the tasks of the present generation."""
        plan, g = self.generations[-1], len(self.generations) - 1
        return [
            Task(
                m,
                g,
                plan["until_epoch"],
                settings,
                None if g == 0 else self.files.checkpoint_of(donor, g - 1),
            )
            for m, (donor, settings) in enumerate(
                zip(plan["donors"], plan["settings"], strict=True)
            )
        ]

    def finish_generation(self, scores: list[float], seconds: float) -> None:
        """Record the scores and keep the best checkpoint so far."""
        self.state["seconds"] = self.state.get("seconds", 0.0) + seconds
        g, plan = len(self.generations) - 1, self.generations[-1]
        m = int(np.argmin(scores))
        best = self.state["best"]
        if math.isfinite(scores[m]) and (best is None or scores[m] < best["score"]):
            kept = self.files.best_checkpoint
            with whole_file(kept) as path:
                path.write_bytes(self.files.checkpoint_of(m, g).read_bytes())
            self.state["best"] = {
                "member": m,
                "generation": g,
                "score": scores[m],
                "settings": plan["settings"][m],
                "until_epoch": plan["until_epoch"],
                "valid": valid_of(self.folder, m, g),
            }
        best = self.state["best"]
        plan["scores"] = [s if math.isfinite(s) else None for s in scores]
        plan["best_so_far"] = None if best is None else best["score"]
        self._write()
        for member in range(len(scores)):  # donors' checkpoints are no longer needed
            now = self.files.checkpoint_of(member, g)
            for path in now.parent.glob("generation-*.ckpt"):
                if path.name < now.name:
                    path.unlink(missing_ok=True)

    def tell(self, seconds: float) -> None:
        """Print a line about the generation that has ended."""
        g, best = len(self.generations) - 1, self.state["best"]
        last = self.generations[-1]["best_so_far"]
        before = None if g == 0 else self.generations[-2]["best_so_far"]
        if best is None:
            return
        gain = (
            ""
            if before is None
            else f", {100 * (before - last) / max(abs(before), 1e-9):.2g} % lower"
        )
        most = self.config.search.max_generations - g - 1
        print(
            f"generation {g} ended after {duration(seconds)} | best so far: {best['score']:.2f}"
            f"{gain} (member {best['member']:02d}, generation {best['generation']}) | at most "
            f"{most} more, {duration(most * seconds)}",
            file=sys.stderr,
            flush=True,
        )

    def best(self) -> dict[str, Any]:
        """Return the best member of all generations, with the path of its checkpoint."""
        if self.state["best"] is None:
            raise LFADSError(
                f"{self.folder}: no member has a finite criterion; try smaller learning rates in "
                "search.space"
            )
        more = {"checkpoint": self.files.best_checkpoint, "seconds": self.state["seconds"]}
        return self.state["best"] | more

    def _plan_first(self) -> None:
        cfg = self.config
        rng = np.random.default_rng([cfg.seed, 0])
        settings = [
            {r.name: self._start(r, rng, is_first=m == 0) for r in self.space}
            for m in range(cfg.search.population)
        ]
        self._add(None, settings, 0)

    def _start(self, r: Range, rng: np.random.Generator, is_first: bool) -> float:
        """Return a member's starting value: a draw, the recipe's value, or one near it."""
        if r.init is not None or self.config.recipe is Recipe.original:
            return r.draw(rng)
        own = params.flat_value(self.config, r.name)  # the recipe's, or what the user set
        inside = min(max(own, r.low), r.high)
        return inside if is_first else r.perturbed(inside, rng)

    def _plan_next(self) -> bool:
        """Plan the next generation; return False if there is none."""
        cfg, last = self.config.search, self.generations[-1]
        if len(self.generations) >= cfg.max_generations or self._gains_no_more():
            return False
        scores = [math.inf if s is None else s for s in last["scores"]]
        rng = np.random.default_rng([self.config.seed, len(self.generations)])
        donors, settings = [], []
        for m, score in enumerate(scores):
            rival = int(rng.integers(len(scores) - 1))
            rival += rival >= m
            loses = scores[rival] < score
            donors.append(rival if loses else m)
            settings.append(last["settings"][donors[-1]])
            if loses:
                settings[-1] = {r.name: r.perturbed(settings[-1][r.name], rng) for r in self.space}
        self._add(donors, settings, last["until_epoch"])
        return True

    def _gains_no_more(self) -> bool:
        n = self.config.search.stop_generations
        if len(self.generations) <= n:
            return False
        before, now = (self.generations[k]["best_so_far"] for k in (-1 - n, -1))
        return before is not None and before - now < self.config.search.stop_gain * abs(before)

    def _add(
        self, donors: list[int] | None, settings: list[dict[str, float]], from_epoch: int
    ) -> None:
        epochs = self.burn_in_epochs if donors is None else self.config.search.generation_epochs
        self.generations.append(
            {
                "until_epoch": from_epoch + epochs,
                "donors": donors or list(range(len(settings))),
                "settings": settings,
                "scores": None,
                "best_so_far": None,
            }
        )
        self._write()

    def _write(self) -> None:
        with whole_file(self.files.journal) as path:
            path.write_text(json.dumps(self.state, indent=1))
        with whole_file(self.files.history) as path, path.open("w", newline="") as file:
            names = [params.dotted_names()[r.name] for r in self.space]
            writer = csv.writer(file)
            writer.writerow(["generation", "member", "donor", "until_epoch", "score", *names])
            for g, plan in enumerate(self.generations):
                if plan["scores"] is None:
                    continue
                for m, score in enumerate(plan["scores"]):
                    values = [plan["settings"][m][r.name] for r in self.space]
                    shown = math.inf if score is None else score
                    writer.writerow([g, m, plan["donors"][m], plan["until_epoch"], shown, *values])


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _tell(task: Task, score: float, n_done: int, config: Config) -> None:
    """Print a line about a member that has finished its generation."""
    settings = " ".join(f"{name}={value:.3g}" for name, value in task.settings.items())
    print(
        f"generation {task.generation} | {n_done}/{config.search.population} | "
        f"member {task.member:02d} | {config.trainer.criterion.name} {score:.2f} | {settings}",
        file=sys.stderr,
        flush=True,
    )
