"""Errors of settings and of files, which end a command with one line."""


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it, its value unless secret, and the remedy."""
