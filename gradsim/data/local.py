"""Stores on the local disk: one that knows what it has written, and one that checks what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from gradsim.data.files import sync
from gradsim.data.manifest import Entry, Journal, mismatch


class WrittenStore(LocalStore):
    """Says in a journal what it writes, and can have all of it on the disk."""

    def __init__(self, root: Path, journal: Journal) -> None:
        super().__init__(root)
        self.journal = journal
        self._written: set[Path] = set()

    def with_read_only(self, read_only: bool = False) -> Self:
        """It is for writing."""
        return self

    async def set(self, key: str, value: Buffer) -> None:
        """See `LocalStore`."""
        self._note(key, value)
        await super().set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """See `LocalStore`."""
        self._note(key, value)
        super().set_sync(key, value)

    async def delete(self, key: str) -> None:
        """See `LocalStore`."""
        self.journal.add(key, None)
        await super().delete(key)

    def _note(self, key: str, value: Buffer) -> None:
        self.journal.add(key, Entry.of(value.as_buffer_like()))
        self._written.add(self.root / key)

    def sync(self) -> None:
        """Have on the disk what was written since this was last asked for."""
        written, self._written = self._written, set()
        sync({path for path in written if path.exists()}, self.root)
        self.journal.sync()


class CheckedStore(LocalStore):
    """Gives what was written, or an error with the name of the file."""

    def __init__(self, root: Path, entries: Mapping[str, Entry]) -> None:
        super().__init__(root, read_only=True)
        self.entries = entries

    def with_read_only(self, read_only: bool = False) -> Self:
        """It is for reading."""
        return self

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """See `LocalStore`.

        Raises
        ------
        StoreError
            The file is not what was written.
        """
        whole = self._checked(key, await super().get(key, prototype))
        return whole if byte_range is None else await super().get(key, prototype, byte_range)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """See `get`."""
        whole = self._checked(key, super().get_sync(key, prototype=prototype))
        return (
            whole if byte_range is None else super().get_sync(key, prototype=prototype, byte_range=byte_range)
        )

    def _checked(self, key: str, found: Buffer | None) -> Buffer | None:
        expected = self.entries.get(key)
        if expected is None:
            return None  # of which nothing was written, whatever is there
        if wrong := mismatch(self.root / key, [expected], found and found.as_buffer_like()):
            raise wrong
        return found
