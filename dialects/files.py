"""Writing files whole or not at all. Plain Python, for the runtime and the compiler alike."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file in one step: readers see the one before or the new one, and a failure leaves the one before.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder, "a"), b"1")
        ...     write_whole(Path(folder, "a"), b"22")
        ...     [(file.name, file.read_bytes()) for file in Path(folder).iterdir()]
        [('a', b'22')]
    """
    target = Path(os.path.realpath(path))  # what a link points to is replaced, not the link
    draft = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        draft.write_bytes(data)
        os.replace(draft, target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()  # still there only if something failed
