"""The error that ends a step, with the step's exit code and a message of one line."""

FAILED = 1
MESSAGE_LENGTH = 500


class StepFailed(Exception):
    """The failure of a step: a message of one line without secrets, and the exit code of the step."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        """Shorten the message to one line of at most 500 characters."""
        super().__init__(' '.join(message.split())[:MESSAGE_LENGTH])
        self.exit_code = exit_code

    @property
    def message(self) -> str:
        """The reason of the failure, in one line."""
        return str(self)


def message_of(error: BaseException) -> str:
    """Return the message of an error in one line; an unexpected error is preceded by its type."""
    if isinstance(error, StepFailed):
        return error.message
    return StepFailed(f'{type(error).__name__}: {error}').message
