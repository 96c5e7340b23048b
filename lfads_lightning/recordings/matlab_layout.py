"""The layout of a .mat file of version 5, looked at before it is read.

scipy's reader trusts what a file declares: a wrong type or size takes the whole program down. Here
every element must be of a known type, inside the one that holds it, and as long as it says.
"""

import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from lfads_lightning.data.session_files import FREE_BYTES, MAX_RATIO

_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # of numbers, in bytes
_TEXTS = {16: 1, 17: 2, 18: 4}
_MATRIX, _PACKED = 14, 15
_NAME, _WHOLE = (1, 16), (5, 6)  # the types that writers use for names, and for sizes
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_DEEPEST, _MOST = 32, 10**6  # cells in cells; elements in all


class _Element(NamedTuple):
    """A piece of a file: its type, its contents, where the next one begins."""

    kind: int
    content: memoryview
    end: int


class _Layout:
    """Walks the elements of a file in one byte order."""

    def __init__(self, order: str) -> None:
        self.order, self.n = order, 0

    def element(self, data: memoryview, at: int) -> _Element:
        """Return the element at a place."""
        if at + 8 > len(data):
            raise ValueError(f"it ends inside a variable, at byte {at} of {len(data)}")
        self.n += 1
        if self.n > _MOST:
            raise ValueError(f"it has over {_MOST} elements")
        kind, size = struct.unpack(f"{self.order}II", data[at : at + 8])
        if kind >> 16:  # a short one keeps its contents in its tag
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError(f"a short element of {size} bytes")
            content, end = data[at + 4 : at + 4 + size], at + 8
        else:
            content, end = data[at + 8 : at + 8 + size], at + 8 + size
            if kind != _PACKED:
                end += -size % 8
        if len(content) != size or (end > len(data) and kind != _PACKED):
            raise ValueError(f"an element of {size} bytes where {len(data) - at} are left")
        if kind not in _SIZES and kind not in _TEXTS and kind not in (_MATRIX, _PACKED):
            raise ValueError(f"an element of unknown type {kind}")
        return _Element(kind, content, end)

    def of(self, kinds: tuple[int, ...], data: memoryview, at: int) -> _Element:
        """Return the element at a place, which must be of one of these types."""
        found = self.element(data, at)
        if found.kind not in kinds:
            raise ValueError(f"an element of type {found.kind} where {kinds[0]} is due")
        return found

    def numbers(self, found: _Element) -> list[int]:
        """Return 32-bit integers."""
        n, rest = divmod(len(found.content), 4)
        if rest:
            raise ValueError("a piece of a number")
        letter = "I" if found.kind == 6 else "i"
        return list(struct.unpack(f"{self.order}{n}{letter}", found.content))

    def values(self, data: memoryview, at: int, n: int | None) -> int:
        """Look at numbers, n of them; return where they end."""
        found = self.element(data, at)
        size = _SIZES.get(found.kind)
        if size is None:
            raise ValueError(f"an element of type {found.kind} where numbers are due")
        if n is not None and len(found.content) != n * size:
            raise ValueError(f"{len(found.content) // size} values where {n} are declared")
        return found.end

    def matrices(self, data: memoryview, at: int, n: int, depth: int) -> int:
        """Look at n variables in a row; return where they end."""
        for _ in range(n):
            found = self.of((_MATRIX,), data, at)
            if found.content:
                self.matrix(found.content, depth + 1)
            at = found.end
        return at

    def matrix(self, data: memoryview, depth: int = 0) -> None:
        """Look at a variable and all in it."""
        if depth > _DEEPEST:
            raise ValueError(f"it is nested over {_DEEPEST} deep")
        found = self.of(_WHOLE, data, 0)
        flags = self.numbers(found)
        if len(flags) != 2:
            raise ValueError("a variable without its flags")
        kind, is_complex, at = flags[0] & 0xFF, bool(flags[0] & 0x0800), found.end
        if kind == _OPAQUE:  # of a class: its name, its system and its class, then what it holds
            for _ in range(3):
                at = self.of(_NAME, data, at).end
            return self._done(data, self.matrices(data, at, 1, depth))
        found = self.of(_WHOLE, data, at)
        shape = self.numbers(found)
        if not 2 <= len(shape) <= 32 or min(shape) < 0:
            raise ValueError(f"a shape of {str(shape)[:100]}")
        n = math.prod(shape)
        at = self.of(_NAME, data, found.end).end
        if kind == _CELL:
            at = self.matrices(data, at, n, depth)
        elif kind in (_STRUCT, _OBJECT):
            if kind == _OBJECT:
                at = self.of(_NAME, data, at).end
            width = self.of(_WHOLE, data, at)
            names = self.of(_NAME, data, width.end)
            (each,) = self.numbers(width) if len(width.content) == 4 else (0,)
            if each <= 0 or len(names.content) % each:
                raise ValueError("fields without names")
            at = self.matrices(data, names.end, n * (len(names.content) // each), depth)
        elif kind == _FUNCTION:
            at = self.matrices(data, at, 1, depth)
        elif kind == _SPARSE:
            at = self._sparse(data, at, shape, is_complex)
        elif kind == _CHAR:
            found = self.element(data, at)
            size = (_TEXTS | _SIZES).get(found.kind)
            if size is None or len(found.content) % size:
                raise ValueError("a piece of a letter")
            at = found.end
        elif 6 <= kind <= 15:
            for _ in range(1 + is_complex):
                at = self.values(data, at, n)
        else:
            raise ValueError(f"a variable of unknown class {kind}")
        return self._done(data, at)

    def _sparse(self, data: memoryview, at: int, shape: list[int], is_complex: bool) -> int:
        rows = self.of(_WHOLE, data, at)
        starts = self.of(_WHOLE, data, rows.end)
        first, per_column = self.numbers(rows), self.numbers(starts)
        if len(shape) != 2 or len(per_column) != shape[1] + 1:
            raise ValueError("a sparse matrix that is no matrix")
        rising = all(a <= b for a, b in zip(per_column, per_column[1:], strict=False))
        if per_column[0] != 0 or not rising or per_column[-1] > len(first):
            raise ValueError("columns of a sparse matrix that do not rise")
        if any(not 0 <= row < max(shape[0], 1) for row in first):
            raise ValueError("a row outside a sparse matrix")
        at = starts.end
        for _ in range(1 + is_complex):
            at = self.values(data, at, None)
        return at

    def _done(self, data: memoryview, at: int) -> None:
        if at != len(data):
            raise ValueError(f"a variable of {at} bytes that declares {len(data)}")


def check_layout(path: Path) -> None:
    """Refuse a file whose elements are not what they declare.

    Raises:
        ValueError, struct.error, zlib.error: what is wrong.
    """
    data = memoryview(path.read_bytes())
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[126:128]))
    if order is None:
        raise ValueError("its header names no byte order")
    layout, at = _Layout(order), 128
    while at < len(data):
        found = layout.element(data, at)
        at = found.end
        if found.kind == _PACKED:
            found = _unpacked(layout, found)
        if found.kind != _MATRIX:
            raise ValueError(f"an element of type {found.kind} where a variable is due")
        if found.content:
            layout.matrix(found.content)


def _unpacked(layout: _Layout, found: _Element) -> _Element:
    most = max(FREE_BYTES // 4, MAX_RATIO * len(found.content))
    machine = zlib.decompressobj()
    inner = memoryview(machine.decompress(found.content, most))
    if not machine.eof:
        raise ValueError(f"a packed variable that is cut off, or over {most} bytes unpacked")
    return layout.element(inner, 0)
