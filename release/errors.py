"""The failures of a release, and the exit code of each kind."""

from enum import IntEnum
import signal


class Exit(IntEnum):
    """The exit codes of the verbs with their meanings; --help prints them, and a test compares the documents."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> 'Exit':
        """Make a code that carries its meaning."""
        made = int.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made

    DONE = 0, 'done'
    UNEXPECTED = 1, 'unexpected error (see the traceback)'
    USAGE = 2, 'wrong usage, a renamed verb, or a removal without confirmation'
    NOT_READY = 3, 'something required is missing or wrong: credentials, permission, region, image, archive, checkout'
    AWS_FAILED = 4, 'AWS refused a call, or did not answer'
    TOOL_FAILED = 5, 'a program is missing or failed: Packer, Ansible, Docker, git, grype'
    NOT_VERIFIED = 6, 'the AMI failed its self-test, or the scan found vulnerabilities'
    TIMED_OUT = 7, 'timed out'
    REFUSED_CHANGE = 8, 'the deny list refuses a change between the two AMIs'
    REFUSED_ROLL = 9, 'a check before the roll failed, and nothing was started'
    ROLLED_BACK = 10, 'the roll failed, and the group is back at the release before it'
    NOT_ROLLED_BACK = 11, 'the roll failed or was cancelled, and instances of both releases may run'
    NOT_SERVED = 12, 'the roll succeeded, but the page does not answer with the new release'
    INTERRUPTED = 130, 'interrupted by Ctrl-C, and cleaned up; a roll goes on at AWS'
    TERMINATED = 143, 'terminated by SIGTERM or a closed terminal, and cleaned up; a roll goes on at AWS'


class ReleaseError(Exception):
    """The failure of a verb; its text names the cause and the remedy."""

    exit_code = Exit.UNEXPECTED


class NotReady(ReleaseError):
    """Something required is missing or wrong, and nothing was started."""

    exit_code = Exit.NOT_READY


class NotConfirmed(ReleaseError):
    """A removal without confirmation; nothing was removed."""

    exit_code = Exit.USAGE


class AwsFailed(ReleaseError):
    """A call that AWS refused or did not answer.

    `code` is AWS's error code, such as InvalidAMIID.NotFound, and `message` is AWS's own sentence. With `is_transient`
    a later call may succeed.
    """

    exit_code = Exit.AWS_FAILED

    def __init__(self, message: str, code: str = '', operation: str = '', is_transient: bool = False) -> None:
        """Join operation, code and message to the error's text."""
        super().__init__(': '.join(filter(None, (operation, code, message))))
        self.code = code
        self.message = message
        self.is_transient = is_transient


class ToolFailed(ReleaseError):
    """A program that is missing or ended with an error."""

    exit_code = Exit.TOOL_FAILED


class NotVerified(ReleaseError):
    """An AMI that must not be used as it is."""

    exit_code = Exit.NOT_VERIFIED


class TimedOut(ReleaseError):
    """A wait that reached its deadline."""

    exit_code = Exit.TIMED_OUT


class RollRefused(ReleaseError):
    """A roll that a check refused; nothing was started."""

    exit_code = Exit.REFUSED_ROLL


class Interrupted(KeyboardInterrupt):
    """A signal that asks the verb to end; not an Exception, so no handler of failures catches it."""

    def __init__(self, number: int) -> None:
        """Set the exit code that belongs to the signal."""
        super().__init__(signal.Signals(number).name)
        self.exit_code = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
