"""The error of settings and of files, which ends a command with one line."""


class SettingsError(ValueError):
    """The error of a missing or bad setting; it names the setting, its value unless that is secret, and the remedy."""
