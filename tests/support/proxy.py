"""The link emulator, where tests look for it."""

from split_lab.link import Proxy

__all__ = ["Proxy"]
