"""One writer for a run folder at a time, on one machine or on many that share a disk."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from gradsim.data.files import contents
from gradsim.errors import StoreError

BEAT = 10.0
"""Seconds between two signs of life of a writer."""

STALE = 60.0
"""Seconds without one after which a writer on another machine is taken for gone."""

_NAME = re.compile(r"claim\.(\d{1,9})")


def is_claim(path: Path) -> bool:
    """Whether a file in a run folder says who writes there."""
    return bool(_NAME.fullmatch(path.name))


@dataclass(frozen=True)
class Writer:
    """Who writes: a process, told apart from later ones of its number, on a machine since it was started."""

    host: str
    machine: str
    process: int
    started: float
    since: str

    @classmethod
    def this(cls) -> Writer:
        """The process that asks."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        number = os.getpid()
        return cls(socket.gethostname(), _machine(), number, psutil.Process(number).create_time(), now)

    @property
    def is_here(self) -> bool:
        """Whether it would be seen from here."""
        return self.machine == _machine()

    @property
    def lives(self) -> bool:
        """Whether a process that would be seen from here is there."""
        try:
            found = psutil.Process(self.process)
            same: bool = abs(found.create_time() - self.started) < 1
            return same and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def _machine() -> str:
    """Where process numbers mean the same: since the last start of the machine, within a container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            os.readlink("/proc/self/ns/pid"),
        ]
    return " ".join(parts)


class Claim:
    """That this process alone writes in a folder: a file, `claim.N`, that is touched now and then.

    A claim of a writer that is gone is not removed but passed by one of a higher number, which only one
    process can make; so two that find it at the same time do not both get the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        stale = self._refuse_others({})
        number = max(stale, default=0) + 1
        self.path = folder / f"claim.{number}"
        text = json.dumps(asdict(Writer.this()) | {"token": secrets.token_hex(8)})
        try:
            with self.path.open("x") as file:
                file.write(text)
        except FileExistsError:
            self._refuse_others({})  # which was sooner
            raise StoreError(f"{folder} is being claimed by another process; try again") from None
        try:
            self._refuse_others({**stale, number: self.path})
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        for path in stale.values():
            path.unlink(missing_ok=True)
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._beating.start()

    def _refuse_others(self, known: dict[int, Path]) -> dict[int, Path]:
        """The claims of writers that are gone; one of a writer that is not, beside `known`, is an error."""
        gone = {}
        for number, path in _claims(self.folder).items():
            if number not in known:
                self._refuse_held(path)
                gone[number] = path
        return gone

    def _refuse_held(self, path: Path) -> None:
        held = f"{self.folder} is being written"
        try:
            age = _age(path)
            found = json.loads(contents(path, 10_000))
            found.pop("token")
            writer = Writer(**found)
        except FileNotFoundError:
            return
        except Exception:  # being written, or damaged
            if age < STALE:
                raise StoreError(f"{held} by a process that does not say which, {path.name}; wait") from None
            return
        who = f"{held} by process {writer.process} on {writer.host} since {writer.since}"
        if writer.is_here:
            if writer.lives:
                raise StoreError(f"{who}; wait for it to end, or choose another with store= or --out")
        elif age < STALE:
            raise StoreError(
                f"{who}, which gave a sign of life {age:.0f} s ago; wait for it to "
                f"end, or, if it has died, until {STALE:.0f} s have gone by"
            )

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with suppress(OSError):
                os.utime(self.path)

    def check(self) -> None:
        """See that the folder is still this process's.

        Raises
        ------
        StoreError
            It was silent for so long, or its claim was removed, that another one has taken over.
        """
        mine = int(self.path.name.rpartition(".")[2])
        if not self.path.exists() or max(_claims(self.folder)) > mine:
            raise StoreError(
                f"{self.folder} is no longer written by this process: its claim there, {self.path.name}, is "
                "gone, or was silent for so long that another one has taken over"
            )

    def release(self) -> None:
        """Let others write."""
        self._ended.set()
        self._beating.join()
        self.path.unlink(missing_ok=True)


def _claims(folder: Path) -> dict[int, Path]:
    found = (_NAME.fullmatch(name) for name in os.listdir(folder))
    return {int(name[1]): folder / name[0] for name in found if name}


def _age(path: Path) -> float:
    """Seconds since the last sign of life, by the clock of the disk that the claim is on."""
    probe = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        probe.touch(exist_ok=False)
        return max(0.0, probe.stat().st_mtime - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0
    except OSError:
        return time.time() - path.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
