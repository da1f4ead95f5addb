"""Every error the project raises on purpose. Each says whose fault it is, and its exit code
(sysexits) whether a restart can help.

Exit codes of both programs; what systemd/*.service does with them, and tests/service hold it to:

    code                 what happened                                        systemd
       0                 done, or stopped by a signal                         leaves it
       1  SplitError     a fault of ours, or a comparison that came out no    starts it anew
      64  UsageError     called wrongly: unknown option, missing argument     leaves it
      65  BundleError    a model, bundle or journal is damaged                leaves it
      66  InputError     an input or source cannot be read                    leaves it
      69  LinkDown       no broker, in a command that needs one               starts it anew
      70                 a bug; the log has the traceback                     starts it anew
      74  SourceLost     a camera is not there; StorageFailed: a full disk,   starts it anew
                         one that may only be read, a device that failed
      75  MemoryExceeded over service.memory_max_mb                           starts it anew
      76  MessageError   a peer broke the protocol                            starts it anew
      77  PermissionRefused  the broker or the system refuses us              leaves it
      78  ConfigError    the configuration cannot work                        leaves it
     130                 interrupted in a terminal                            -

A daemon does not end because the broker is away or refuses it: that is in its status line.
"""

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


class SourceLost(InputError):
    """A camera is not there: not yet, as a USB camera at boot, or not any more. Worth another
    try."""

    exit_code = 74


class StorageFailed(SplitError):
    """What is to be written finds no room, or a disk that fails; not the command's fault, and once
    there is room the same command works."""

    exit_code = 74


class JournalError(InputError):
    """A journal has a line that is none, or nothing to read; not the file is missing, but what
    is in it is wrong."""

    exit_code = 65


class MemoryExceeded(SplitError):
    """The process holds more memory than it may; started anew it holds less."""

    exit_code = 75


class MessageError(SplitError):
    """The peer sent something we refuse: count it and go on."""

    exit_code = 76


class LinkDown(SplitError):
    """The broker cannot be reached. Expected; the planner's business, not an incident."""

    exit_code = 69


class PermissionRefused(SplitError):
    """The broker refused our credentials or a topic, or the system a file; the operator's to
    mend."""

    exit_code = 77


class ConfigError(SplitError):
    """The configuration is wrong; no restart will help."""

    exit_code = 78
