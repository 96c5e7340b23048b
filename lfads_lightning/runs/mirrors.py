"""Runs that live in a bucket: a folder of this machine and its copy in a store.

A run trains in ``outputs/s3/bucket/prefix`` under the working folder, and is copied to the store
after each periodic checkpoint and at its end. The local folder stays, so that a run whose store
does not answer has lost nothing.

Where a local folder belongs, and which state of each file the store has, is kept in this user's
records (``provenance.py``), never in the folder: whoever sent one could name any address there.
``.writer.json`` in the store says which local folder wrote there last, so that two machines never
mix one run's files.
"""

import json
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lfads_lightning.commands import override, to_train
from lfads_lightning.config import LFADSError
from lfads_lightning.runs.documents import parsed_json
from lfads_lightning.runs.provenance import STORE, record_of, remember
from lfads_lightning.runs.remote import Store, StoreError

WRITER = ".writer.json"


class Mirror:
    """A run's local folder and its copy in a store.

    Args:
        folder: the local one.
        url: of the store; null: as the record of the folder says.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        new: dict[str, Any] = {"url": url, "id": uuid.uuid4().hex, "before": None, "files": {}}
        self.state: dict[str, Any] = record_of(folder).get(STORE, new)
        self.store = Store(url or self.state["url"])

    def pull(self) -> None:
        """Fetch what another machine, or nobody from here, has written to the store.

        Raises:
            LFADSError: the local copy went on too.
        """
        theirs, writer = self.store.list(), self._writer()
        ours = writer is not None and writer["id"] == self.state["id"]
        files = self._files()
        went_on = [name for name, stamp in files.items() if self.state["files"].get(name) != stamp]
        if theirs and not ours and went_on:
            since = "" if writer is None else f", by {writer['host']} at {writer['time']}"
            raise LFADSError(
                f"{self.store.url}: was written to from elsewhere{since}, and {self.folder} holds "
                f"{len(went_on)} files that are not there ({went_on[0]}); move the local folder "
                "away to go on from the store, or go on in another output.lfads_save_dir"
            )
        for name, size in theirs.items():
            if not ours or name not in files:
                self.store.fetch(name, size, self.folder / name)
        if theirs and not ours:
            for name in files.keys() - theirs.keys():
                (self.folder / name).unlink()  # unchanged since the store had it, and dropped there
            self.state |= {"files": self._files(), "before": writer}
        # what the store has lost will be copied again
        self.state["files"] = {n: s for n, s in self.state["files"].items() if n in theirs}
        self._write_state()

    def push(self) -> None:
        """Copy to the store what has changed; indexes last, then remove there what is gone here.

        Raises:
            LFADSError: no answer, or another machine has taken the run over.
        """
        self._claim()
        known, files = self.state["files"], self._files()
        for name in sorted(files, key=lambda n: (n.endswith(".json"), n)):
            if known.get(name) != files[name] and (self.folder / name).is_file():
                self.store.put(self.folder / name, name)
                known[name] = files[name]
                self._write_state()
        for name in [n for n in known if n not in files]:
            self.store.remove(name)
            del known[name]
            self._write_state()

    def _claim(self) -> None:
        writer = self._writer()
        if writer is not None and writer["id"] == self.state["id"]:
            return
        if writer != self.state["before"] and writer is not None:
            raise StoreError(
                f"{self.store.url}: {writer['host']} has been writing this run since "
                f"{writer['time']}; {self.folder} is kept as it is; end one of the two"
            )
        me = {
            "id": self.state["id"],
            "host": socket.gethostname(),
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / WRITER).write_text(json.dumps(me))
            self.store.put(Path(folder) / WRITER, WRITER)

    def _writer(self) -> dict[str, str] | None:
        content = self.store.read(WRITER)
        try:
            return None if content is None else parsed_json(content, f"{self.store.url}/{WRITER}")
        except LFADSError as error:
            raise LFADSError(f"{error}; remove it") from error

    def _files(self) -> dict[str, list[int]]:
        """Return size and time of every local file; hidden ones, unfinished among them, are out."""
        files = {}
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            if path.is_symlink():
                continue  # one that leads out would give away what it leads to
            if path.is_file() and not any(part.startswith(".") for part in relative.parts):
                stat = path.stat()
                files[relative.as_posix()] = [stat.st_size, stat.st_mtime_ns]
        return files

    def _write_state(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remember(self.folder, store=self.state)


def mirror_of(folder: Path) -> Mirror | None:
    """Return the mirror of a run's folder; None where it belongs to no store."""
    return Mirror(folder) if STORE in record_of(folder) else None


@contextmanager
def mirrored(folder: Path) -> Iterator[None]:
    """Copy what a run has written to its store at the end, also where the run fails."""
    mirror = mirror_of(folder)
    if mirror is None:
        yield
        return
    try:
        yield
    except StoreError:
        raise  # there is no use to try once more
    except BaseException:
        try:
            mirror.push()
        except LFADSError as error:
            print(f"{error}. All is kept in {folder}", file=sys.stderr, flush=True)
        raise
    _push(mirror)


def push(folder: Path) -> None:
    """Copy what a run has written so far to its store, where it has one.

    Raises:
        LFADSError: no answer; says how to go on.
    """
    mirror = mirror_of(folder)
    if mirror is not None:
        _push(mirror)


def _push(mirror: Mirror) -> None:
    try:
        mirror.push()
    except LFADSError as error:
        raise StoreError(
            f"{error}. Nothing is lost: all is in {mirror.folder}. To go on: "
            + to_train(override("resume", mirror.store.url))
        ) from error
