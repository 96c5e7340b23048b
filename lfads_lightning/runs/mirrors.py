"""Runs stored in a bucket: a local folder and its copy in the store.

A run trains in ``outputs/s3/bucket/prefix`` under the working folder, and is copied to the store
after each periodic checkpoint and at its end. The local folder is kept, so that nothing is lost if
the store does not answer.

The address of a local folder's store, and the state of each file there, are kept in this user's
records (``provenance.py``), never in the folder, where its sender could name any address.
``.writer.json`` in the store says which local folder wrote there last, so that two machines never
mix the files of a run.
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
        folder: the local folder.
        url: address of the store; None: the address in the record of the folder.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder = folder
        new: dict[str, Any] = {"url": url, "id": uuid.uuid4().hex, "before": None, "files": {}}
        self.state: dict[str, Any] = record_of(folder).get(STORE, new)
        self.store = Store(url or self.state["url"])

    def pull(self) -> None:
        """Fetch files that were written to the store from elsewhere.

        Raises:
            LFADSError: the local copy has changed too.
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
                "away to continue from the store, or continue in another output.lfads_save_dir"
            )
        for name, size in theirs.items():
            if not ours or name not in files:
                self.store.fetch(name, size, self.folder / name)
        if theirs and not ours:
            for name in files.keys() - theirs.keys():
                (self.folder / name).unlink()  # unchanged here, and removed from the store
            self.state |= {"files": self._files(), "before": writer}
        # files missing from the store will be copied again
        self.state["files"] = {n: s for n, s in self.state["files"].items() if n in theirs}
        self._write_state()

    def push(self) -> None:
        """Copy changed files to the store, indexes last; then remove files that are gone here.

        Raises:
            LFADSError: the store does not answer, or another machine has taken the run over.
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
        """Return size and time of every local file, without hidden (such as unfinished) files."""
        files = {}
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            if path.is_symlink():
                continue  # a link that leads out would publish a file from elsewhere
            if path.is_file() and not any(part.startswith(".") for part in relative.parts):
                stat = path.stat()
                files[relative.as_posix()] = [stat.st_size, stat.st_mtime_ns]
        return files

    def _write_state(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        remember(self.folder, store=self.state)


def mirror_of(folder: Path) -> Mirror | None:
    """Return the mirror of a run's folder; None if it has no store."""
    return Mirror(folder) if STORE in record_of(folder) else None


@contextmanager
def mirrored(folder: Path) -> Iterator[None]:
    """Copy what a run has written to its store at the end, even if the run fails."""
    mirror = mirror_of(folder)
    if mirror is None:
        yield
        return
    try:
        yield
    except StoreError:
        raise  # trying again is no use
    except BaseException:
        try:
            mirror.push()
        except LFADSError as error:
            print(f"{error}. All is kept in {folder}", file=sys.stderr, flush=True)
        raise
    _push(mirror)


def push(folder: Path) -> None:
    """Copy what a run has written so far to its store, if it has one.

    Raises:
        LFADSError: the store does not answer; the message says how to continue.
    """
    mirror = mirror_of(folder)
    if mirror is not None:
        _push(mirror)


def _push(mirror: Mirror) -> None:
    try:
        mirror.push()
    except LFADSError as error:
        raise StoreError(
            f"{error}. Nothing is lost: everything is in {mirror.folder}. To continue: "
            + to_train(override("resume", mirror.store.url))
        ) from error
