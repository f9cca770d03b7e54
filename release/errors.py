"""What can go wrong in a release, and the exit code that tells whoever called what kind of thing it was."""

from enum import IntEnum
import signal


class Exit(IntEnum):
    """How a verb ended, with what each code means; --help and the test of the documents read it here."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> 'Exit':
        """Make a code that knows what it means."""
        made = int.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made

    DONE = 0, 'done'
    UNFORESEEN = 1, 'nobody foresaw this; the traceback says where it happened'
    USAGE = 2, 'wrong usage, or a removal that nothing has confirmed'
    NOT_READY = 3, 'something needed is missing or wrong: credentials, permission, region, image, archive, checkout'
    AWS_FAILED = 4, 'AWS refused, or did not answer'
    TOOL_FAILED = 5, 'a program is missing or failed: Packer, Ansible, Docker, git'
    NOT_VERIFIED = 6, 'the image did not pass its self-test, or has vulnerabilities that the scan was to find'
    TIMED_OUT = 7, 'it took too long'
    INTERRUPTED = 130, 'ended by Ctrl-C, and cleaned up'
    TERMINATED = 143, 'ended by SIGTERM or a closed terminal, and cleaned up'


class ReleaseError(Exception):
    """A verb could not do its work; the message says what is wrong and what to do."""

    code = Exit.UNFORESEEN


class NotReady(ReleaseError):
    """Something that is needed is missing or wrong, and nothing was begun."""

    code = Exit.NOT_READY


class NotConfirmed(ReleaseError):
    """A removal was not confirmed, and nothing was removed."""

    code = Exit.USAGE


class AwsFailed(ReleaseError):
    """AWS refused a call or did not answer."""

    code = Exit.AWS_FAILED

    def __init__(self, message: str, reason: str = '', is_passing: bool = False) -> None:
        """Keep AWS's own name for the reason, such as InvalidAMIID.NotFound, and whether a later call may succeed."""
        super().__init__(message)
        self.reason = reason
        self.is_passing = is_passing


class ToolFailed(ReleaseError):
    """A program that the release tool runs is missing or ended with an error."""

    code = Exit.TOOL_FAILED


class NotVerified(ReleaseError):
    """An image must not be used as it is."""

    code = Exit.NOT_VERIFIED


class TimedOut(ReleaseError):
    """Something was waited for as long as was allowed."""

    code = Exit.TIMED_OUT


class Interrupted(KeyboardInterrupt):
    """A signal asks to end; no Exception, so that no handler of those takes it for a failure."""

    def __init__(self, number: int) -> None:
        """Remember which signal it was."""
        super().__init__(signal.Signals(number).name)
        self.code = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
