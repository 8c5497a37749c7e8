"""The error family: every error that this package raises on purpose is a ``NetsError``."""

from __future__ import annotations


class NetsError(Exception):
    """Base of all errors raised on purpose; each also is the matching builtin error."""


class InvalidValueError(NetsError, ValueError):
    """A value is outside what the argument allows."""


class InvalidTypeError(NetsError, TypeError):
    """An argument is of the wrong kind."""


class UnknownNameError(NetsError, AttributeError):
    """A module of the package has nothing of that name."""


class CallOrderError(NetsError, RuntimeError):
    """Something was asked for before what it needs was there."""


class MissingExtraError(NetsError, ImportError):
    """An optional package is not installed; the message holds the command that installs it."""


class FileAccessError(NetsError, OSError):
    """A file or folder cannot be read or written."""


class TicketFileError(InvalidValueError):
    """A ticket file is damaged, of a newer schema, or no ticket file at all."""


class RunFileError(InvalidValueError):
    """A file of a run is damaged, of a newer schema, or not what it is called."""


class RunChangedError(InvalidValueError):
    """A run cannot go on as it was: its configuration, data, model or folder has changed."""


class FolderInUseError(NetsError, RuntimeError):
    """Another program writes into the run folder."""


class ExecutorLostError(NetsError, RuntimeError):
    """All workers are lost, or none can be had; what they had finished is kept."""
