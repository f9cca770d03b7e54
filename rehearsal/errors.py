"""What can go wrong in a rehearsal and is no defect of it: the message says what, and what to do."""


class RehearsalError(Exception):
    """A rehearsal cannot do what it was asked to do; the message says why and what would help."""
