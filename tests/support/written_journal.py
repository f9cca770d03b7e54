"""A journal of systemd's own format that a test writes, for programs that read journals."""

from pathlib import Path
import subprocess
import time
from types import TracebackType

import pytest

from tests.support.waiting import eventually
from tests.tools.packages import program

BOOT = '0' * 31 + '1'


class WrittenJournal:
    """A journal in a folder, whose entries a test writes."""

    def __init__(self, folder: Path) -> None:
        """Begin a journal in a folder."""
        writer = program('systemd-journal-remote')
        if not writer:
            pytest.fail('no systemd-journal-remote, which writes journals: apt-get install systemd-journal-remote, or '
                        'let `make test` do it', pytrace=False)
        folder.mkdir()
        self.folder = folder
        self._number = 0
        self._writer = subprocess.Popen([str(writer), f'--output={folder}/system.journal', '-'],
                                        stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def __enter__(self) -> 'WrittenJournal':
        """Return the journal."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End the writing."""
        assert self._writer.stdin
        self._writer.stdin.close()
        self._writer.wait(60)

    def write(self, *messages: str | bytes, seconds_ago: float = 0, unit: str = 'visitors.service') -> None:
        """Write an entry for each message; the first is in the file when this returns.

        journalctl ends at once for a folder whose journal has no entry yet.
        """
        assert self._writer.stdin
        is_first = not self._number
        for message in messages:
            self._number += 1
            moment = int((time.time() - seconds_ago) * 1e6) + self._number
            text = message if isinstance(message, bytes) else message.encode()
            # The form for text with line feeds: the length in eight bytes, then the bytes.
            field = b'MESSAGE\n' + len(text).to_bytes(8, 'little') + text
            head = (f'__REALTIME_TIMESTAMP={moment}\n__MONOTONIC_TIMESTAMP={self._number}\n_BOOT_ID={BOOT}\n'
                    f'_SYSTEMD_UNIT={unit}\nPRIORITY=6\n')
            self._writer.stdin.write(head.encode() + field + b'\n\n')
        self._writer.stdin.flush()
        if is_first:
            eventually(self._has_entries, 'the journal has an entry')

    def _has_entries(self) -> bool:
        command = ['journalctl', f'--directory={self.folder}', '--quiet', '--lines=1', '--output=export']
        return bool(subprocess.run(command, capture_output=True, check=False).stdout)
