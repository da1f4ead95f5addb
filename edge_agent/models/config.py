"""Settings of [updates]: which models may come over the broker, and how long one is on trial."""

from __future__ import annotations

import msgspec

from split_core.errors import ConfigError


class UpdatesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Off, unless there is a key or unsigned models are allowed."""

    # PEM file of an Ed25519 public key: only models signed by its private half are taken.
    public_key_file: str | None = None
    # Take models from whoever may send this device commands. Without a key only.
    allow_unsigned: bool = False
    # Of a bundle, in MiB.
    max_mb: int = 256
    # A new model is given up after so many frames that it failed, or so many starts of the
    # process that did not end well ...
    rollback_after: int = 5
    # ... before this many frames in a row were answered.
    trial_frames: int = 50

    @property
    def enabled(self) -> bool:
        return self.public_key_file is not None or self.allow_unsigned

    def check(self) -> None:
        """Raises ConfigError for values that cannot work."""
        if self.public_key_file is not None and self.allow_unsigned:
            raise ConfigError("updates.allow_unsigned is true and updates.public_key_file is set;"
                              " take away one: with a key, only signed models are taken")
        for name, value, most in (("max_mb", self.max_mb, 2048),
                                  ("rollback_after", self.rollback_after, 1000),
                                  ("trial_frames", self.trial_frames, 1_000_000)):
            if not 1 <= value <= most:
                raise ConfigError(f"updates.{name} is {value}, wanted 1 to {most}")
