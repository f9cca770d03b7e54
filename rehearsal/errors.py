"""The error of a rehearsal that is no defect of it."""


class RehearsalError(Exception):
    """A failure whose message names the cause and the remedy."""
