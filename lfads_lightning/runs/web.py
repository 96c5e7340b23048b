"""Files behind an ``https://`` or ``http://`` address that the user has typed: downloaded whole.

This uses the standard library only. Proxy variables of the environment apply, redirects are
followed to http(s) addresses only, and nothing but the file at the address is requested.
"""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from lfads_lightning.config import LFADSError, is_name
from lfads_lightning.runs.files import whole_file

if TYPE_CHECKING:
    from email.message import Message

TIMEOUT_S = 60
# no handlers for file:, ftp: or data:, to which a server could redirect us
_HANDLERS = ("Proxy", "HTTP", "HTTPS", "HTTPDefaultError", "HTTPRedirect")
_BLOCK = 2**20


def is_web(path: object) -> bool:
    """Return whether a path is a web address.

    >>> is_web("https://example.org/day1.nwb"), is_web("s3://bucket/day1.nwb")
    (True, False)
    """
    return re.match(r"https?://", str(path)) is not None


def name_in(url: str) -> str:
    """Return the name of a file from its address.

    >>> name_in("https://example.org/my%20day.nwb?version=1.2")
    'my day.nwb'
    """
    return unquote(PurePosixPath(urlsplit(url).path).name)


def download(url: str, folder: Path, waits_s: Sequence[float]) -> Path:
    """Download a file into a folder.

    It is named as in the address, or, if that has no extension, as the server says.

    Args:
        url: the address.
        folder: receives the file, whole or not at all.
        waits_s: waiting times before the second attempt and later ones, in seconds.

    Raises:
        LFADSError: the server does not answer, or has no such file.
    """
    # here, because it imports encryption, which takes a while
    from http.client import HTTPException
    from urllib.error import HTTPError

    for wait in (*waits_s, None):
        try:
            return _download(url, folder)
        except LFADSError:
            raise
        except HTTPError as error:
            reason, final = f"{error.code} {error.reason}", error.code < 500
        except (HTTPException, OSError) as error:
            reason, final = " ".join(str(error).split())[:200] or type(error).__name__, False
        except ValueError as error:
            reason, final = str(error)[:200], True
        if final or wait is None:
            raise LFADSError(
                f"{url}: cannot be downloaded ({reason}); check the address, or download the file "
                "by other means and give its path"
            )
        print(f"{url}: {reason}; retry in {wait:g} s", file=sys.stderr, flush=True)
        time.sleep(wait)
    raise AssertionError


def _download(url: str, folder: Path) -> Path:
    from http.client import HTTPException

    with _opened(url) as response:
        said = response.headers.get("Content-Length", "")
        size = int(said) if said.isdecimal() else None
        path = folder / _name(url, response.headers)
        told = "" if size is None else f" ({size / 1e6:.1f} MB)"
        print(f"Fetching {url}{told}", file=sys.stderr)
        with whole_file(path) as unfinished:
            with unfinished.open("wb") as out:
                for block in _blocks(response):
                    out.write(block)
            arrived = unfinished.stat().st_size
            if size is not None and arrived != size:
                raise HTTPException(f"{arrived} of {size} bytes arrived")
    return path


def _opened(url: str) -> Any:
    from urllib import request

    opener = request.OpenerDirector()
    for name in _HANDLERS:
        opener.add_handler(getattr(request, f"{name}Handler")())
    opener.add_handler(request.HTTPErrorProcessor())
    return opener.open(request.Request(url, headers={"User-Agent": "lfads"}), timeout=TIMEOUT_S)


def _blocks(response: Any) -> Iterator[bytes]:
    """Read a response, so that a lost connection is not reported as a disk error."""
    from http.client import HTTPException

    while True:
        try:
            block = response.read(_BLOCK)
        except OSError as error:
            raise HTTPException(str(error)) from error
        if not block:
            return
        yield block


def _name(url: str, headers: "Message") -> str:
    name = name_in(url)
    if not PurePosixPath(name).suffix:
        name = headers.get_filename() or name
    if not is_name(name) or not name.strip("."):
        raise ValueError(f"its name is {ascii(name)[:80]}, which is not a valid file name")
    return name
