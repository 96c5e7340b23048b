"""The command line, ``lfads VERB``: a module for each verb. The only place that knows Hydra."""

import difflib
import os
import sys
from importlib import import_module

from lfads_lightning.cli.programs import fail, version_text
from lfads_lightning.config import LFADSError

__all__ = ["main"]

# How long a waiting thread spins before it gives up its core. By default it spins for milliseconds,
# which other programs on a busy machine need. Must be set before torch is imported.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "10000"

VERBS = {
    "train": "train a model, or run a trained one; the same as python train.py",
    "prepare": "convert recordings to session files",
    "check": "summarise session files, and check that a model can be trained on them",
    "align": "align the neurons of several sessions, to train one model on all of them",
    "merge": "merge the results of overlapping chops into whole recordings",
    "evaluate": "score a trained model, and compare it with simple methods",
    "export": "write the results of a run as NWB, MATLAB or NumPy files",
    "report": "write the report of a run, a sweep or a search again",
    "info": "print versions, hardware and a summary of a run, for a bug report",
}
HELP = "\n".join(
    [
        "usage: lfads VERB ...",
        "",
        "LFADS: denoised firing rates from spike counts. Commands:",
        "",
        *(f"  {verb:<10}{what}" for verb, what in VERBS.items()),
        "",
        "lfads VERB --help shows the options of a command, lfads --version the version.",
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
        # import this verb's module only: importing Hydra takes a third of a second
        return import_module(f"lfads_lightning.cli.{verb}").main()
    return 0


def _no_such(word: str, others: list[str]) -> LFADSError:
    near = difflib.get_close_matches(word.lower(), VERBS, n=1)
    if not near and ("=" in word or word.startswith("-")):
        near = ["train"] if any("=" in w for w in (word, *others)) else []
    hint = f"; did you mean lfads {near[0]}?" if near else "."
    return LFADSError(f"there is no command {word!r}{hint} The commands are {', '.join(VERBS)}")
