"""Open a folder with every command in this process, and report what Python does outside of it.

Called by test_hostile_folder.py: FOLDER OUTSIDE OUT. It listens to Python's audit events: files and
folders opened, created, changed and removed, programs started, sockets connected.
"""

import contextlib
import io
import json
import os
import sys
import warnings
from pathlib import Path

FOLDER, OUTSIDE, OUT = sys.argv[1:4]
SEEN = []
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")


def watch(event, arguments):
    """Record events that touch the tree outside, the network, or programs in the folder."""
    if not event.startswith(("open", "os.", "shutil.", "socket.", "subprocess.", "ctypes.dlopen")):
        return
    texts = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
    texts += [str(a) for a in arguments if isinstance(a, list | tuple)]
    hits = [OUTSIDE] if event not in PROGRAMS else [OUTSIDE, FOLDER]
    # a relative path is seen from the working folder
    texts += [os.path.abspath(t) for t in texts if t and not os.path.isabs(t)]
    if event in NETWORK or any(hit in text for text in texts for hit in hits):
        SEEN.append([event, texts])


def commands():
    """Return the name and the call of every command that takes a run's folder."""
    import lfads_lightning as lfads
    from lfads_lightning.cli import align, check, evaluate, export, merge, report
    from lfads_lightning.cli.train import main as train_main
    from lfads_lightning.config import EXPORT_FORMATS

    def train(*words):
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        sys.argv = ["lfads-train", *words]
        train_main()

    results = [str(p) for p in Path(FOLDER).glob("*.h5")]
    kinds = "posterior_sample_and_average", "posterior_push_mean", "prior_sample"
    few = ["sampling.num_posterior_samples=2", "trainer.device=cpu:0", "recipe=original"]
    for to in EXPORT_FORMATS:
        yield f"lfads export {to}", lambda to=to: export.main([FOLDER, "--to", to])
    yield "lfads merge", lambda: merge.main([FOLDER])
    yield "lfads check", lambda: check.main([*results, f"{FOLDER}/session.h5"])
    yield "lfads align", lambda: align.main([f"{FOLDER}/session.h5", "--factors-dim", "2"])
    yield "lfads report", lambda: report.main([FOLDER])
    yield "lfads evaluate", lambda: evaluate.main([FOLDER])
    yield "lfads.load", lambda: lfads.load(FOLDER).model_params()
    for kind in (*kinds, "write_model_params"):
        words = [f"kind={kind}", f"output.lfads_save_dir={FOLDER}", *few]
        yield f"kind={kind}", lambda words=words: train(*words)
    yield "start_from", lambda: train(f"optim.start_from={FOLDER}", "trainer.max_epochs=1", few[1])
    yield "resume", lambda: train(f"resume={FOLDER}", "trainer.max_epochs=4")


def main():
    """Call all commands; write the message of each and the recorded events."""
    said = {}
    calls = list(commands())
    import torch

    from lfads_lightning.config import LFADSError

    torch.set_num_threads(1)
    sys.addaudithook(watch)
    for name, call in calls:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            try:
                with warnings.catch_warnings():
                    status = call()
                end = str(status) if isinstance(status, int) else "0"
            except SystemExit as error:
                end = str(error.code or 0)
            except LFADSError as error:  # from Python
                end = "2"
                print(f"error: {error}")
            except Exception as error:
                end = f"{type(error).__name__}: {error}"
        said[name] = [end, text.getvalue()]
    n = len(SEEN)
    os.listdir(OUTSIDE)
    assert len(SEEN) > n, "no events are recorded"
    del SEEN[n:]
    Path(OUT).write_text(json.dumps({"said": said, "seen": SEEN}))


if __name__ == "__main__":
    main()
