"""The end of database servers, whether or not the server of their rehearsal still runs."""

from pathlib import Path
import signal

import psutil

SECONDS = 60


def end_servers(folder: Path) -> None:
    """End every server whose data is below a folder, also one whose rehearsal was killed, by its process id."""
    for file in folder.glob('*/data/postmaster.pid'):
        process = _server_of(file)
        if process:
            children = process.children()
            process.send_signal(signal.SIGQUIT)
            _, alive = psutil.wait_procs([process], timeout=SECONDS)
            for each in alive:
                each.kill()
            psutil.wait_procs([*alive, *children], timeout=SECONDS)


def _server_of(file: Path) -> psutil.Process | None:
    """Return the process that a file of a data folder names, if it works in that folder."""
    try:
        process = psutil.Process(int(file.read_text(encoding='ascii').split()[0]))
        return process if Path(process.cwd()) == file.parent else None
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ValueError, IndexError):
        return None
