"""How a step ends when it cannot do what it is for."""

FAILED = 1
REASON_LENGTH = 500


class StepFailed(Exception):
    def __init__(self, reason: str, code: int = FAILED) -> None:
        """Give up a step for this reason, in one line and without any secret, with this exit code."""
        super().__init__(' '.join(reason.split())[:REASON_LENGTH])
        self.code = code

    @property
    def reason(self) -> str:
        """Why, in one line."""
        return str(self)


def reason_of(error: BaseException) -> str:
    """Return why something failed, in one line; of what nobody foresaw the kind as well."""
    if isinstance(error, StepFailed):
        return error.reason
    return StepFailed(f'{type(error).__name__}: {error}').reason
