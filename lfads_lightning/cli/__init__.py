"""The command line, ``lfads VERB``: a module for each verb. The only place that knows Hydra."""

import difflib
import os
import sys
from importlib import import_module

from lfads_lightning.cli.programs import fail, version_text
from lfads_lightning.config import LFADSError

__all__ = ["main"]

# How long a thread that waits for others keeps its core; read when torch is imported. By default it
# is milliseconds, which on a busy machine the others miss.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "10000"

VERBS = {
    "train": "train a model, or use one that is trained; also: python train.py",
    "prepare": "make session files of recordings",
    "check": "show what session files hold, and whether they can be trained on",
    "align": "align the neurons of several sessions, for one model of all",
    "merge": "merge what a run makes of overlapping chops into whole recordings",
    "evaluate": "score a trained model, and simple methods beside it",
    "export": "write a run's results as NWB, MATLAB or NumPy files",
    "report": "write the report of a run, a sweep or a search anew",
    "info": "print versions, machine and a run's summary, for an issue",
}
HELP = "\n".join(
    [
        "usage: lfads VERB ...",
        "",
        "LFADS: denoised firing rates from spike counts. The verbs:",
        "",
        *(f"  {verb:<10}{what}" for verb, what in VERBS.items()),
        "",
        "lfads VERB --help says more of one; lfads --version says the version.",
    ]
)


def main() -> int | None:
    """Run ``lfads VERB ...``: the same as ``lfads-VERB ...``."""
    verb, *words = sys.argv[1:] or [""]
    if verb == "--version":
        print(version_text())
    elif verb in ("", "-h", "--help", "help"):
        print(HELP)
        return 0 if verb else 2
    elif verb not in VERBS:
        fail(_no_such(verb, words))
    else:
        sys.argv[1:] = words
        # of one verb alone: Hydra's import takes a third of a second
        return import_module(f"lfads_lightning.cli.{verb}").main()
    return 0


def _no_such(word: str, others: list[str]) -> LFADSError:
    near = difflib.get_close_matches(word.lower(), VERBS, n=1)
    if not near and ("=" in word or word.startswith("-")):
        near = ["train"] if any("=" in w for w in (word, *others)) else []
    hint = f"; did you mean lfads {near[0]}?" if near else "."
    return LFADSError(f"{word!r} is no verb{hint} The verbs are {', '.join(VERBS)}")
