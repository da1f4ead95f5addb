"""Every error the project raises on purpose. Each says whose fault it is, and its exit code
(sysexits) whether a restart can help."""

from __future__ import annotations


class SplitError(Exception):
    """Base of all; a plain one is a fault of ours."""

    exit_code = 1


class UsageError(SplitError):
    """The command was called wrongly; the caller's to mend."""

    exit_code = 64


class BundleError(SplitError):
    """A model or bundle file is damaged, mismatched or cannot be split; a retry won't help."""

    exit_code = 65


class InputError(SplitError):
    """An input (photo, frame) cannot be read or has the wrong shape; the next may be fine."""

    exit_code = 66


class JournalError(InputError):
    """A journal has a line that is none, or nothing to read; not the file is missing, but what
    is in it is wrong."""

    exit_code = 65


class MessageError(SplitError):
    """The peer sent something we refuse: count it and go on."""

    exit_code = 76


class LinkDown(SplitError):
    """The broker cannot be reached. Expected; the planner's business, not an incident."""

    exit_code = 69


class PermissionRefused(SplitError):
    """The broker refused our credentials or a topic; the operator's to mend."""

    exit_code = 77


class ConfigError(SplitError):
    """The configuration is wrong; no restart will help."""

    exit_code = 78
