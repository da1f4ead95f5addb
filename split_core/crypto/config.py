"""Where the keys for sealed messages are. Needs nothing but the standard library."""

from __future__ import annotations

import msgspec

from split_core.crypto.keyring import Keyring, read_keyring


class SealConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End-to-end encryption of what devices and workers send each other."""

    # A file of shared keys, one a line (docs/security.md); $CREDENTIALS_DIRECTORY/NAME for
    # systemd credentials. With it everything is sealed, and what is not is refused.
    keys_file: str | None = None

    def keyring(self) -> Keyring | None:
        """The keys; None where nothing is to be sealed. Raises ConfigError."""
        return None if self.keys_file is None else read_keyring(self.keys_file)
