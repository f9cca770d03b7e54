"""The errors of a rehearsal that are no defects of it."""


class RehearsalError(Exception):
    """A failure whose message names the cause and the remedy."""


class NotModelled(NotImplementedError):
    """The refusal of a part of AWS that this rehearsal does not model; the message names the part.

    `api/gaps.py` refuses the call and lists it. moto raises the parent class for an action that it lacks.
    """
