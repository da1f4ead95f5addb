"""TLS failures in words: whose certificate is wrong, in what, and what to do.

OpenSSL's own words are kept at the end of each message, for a search engine.
"""

from __future__ import annotations

import enum
import ssl

from split_core.errors import ConfigError, LinkDown, PermissionRefused, SplitError


class Fault(enum.Enum):
    """What is wrong with a broker's certificate: OpenSSL's X509_V_ERR_* (x509_vfy.h)."""

    NOT_YET_VALID = frozenset({9})
    EXPIRED = frozenset({10})
    AUTHORITY = frozenset({2, 18, 19, 20, 21})   # signed by itself, or by somebody unknown
    NAME = frozenset({62, 64})                   # of a host, of an address
    OTHER = frozenset()


def fault_of(error: ssl.SSLCertVerificationError) -> Fault:
    """What OpenSSL found."""
    return next((f for f in Fault if error.verify_code in f.value), Fault.OTHER)


# What the broker says of our certificate: part of OpenSSL's reason, and what it means.
_ALERTS = (
    ("CERTIFICATE_REQUIRED", "asks for a certificate: set broker.cert_file and broker.key_file"),
    ("HANDSHAKE_FAILURE", "takes no connection as we offer it: it may ask for a certificate"
                          " (broker.cert_file, broker.key_file), or for another version of TLS"),
    ("UNKNOWN_CA", "does not know who signed our certificate (broker.cert_file): have it signed by"
                   " the authority in the broker's cafile"),
    ("CERTIFICATE_EXPIRED", "says that our certificate (broker.cert_file) has expired: renew it"),
    ("CERTIFICATE_REVOKED", "says that our certificate (broker.cert_file) was revoked"),
    ("BAD_CERTIFICATE", "refuses our certificate (broker.cert_file): not valid yet by the broker's"
                        " clock, or damaged"),
    ("UNSUPPORTED_CERTIFICATE", "refuses our certificate (broker.cert_file): it was not made for"
                                " clients"),
    ("PROTOCOL_VERSION", "offers no TLS 1.2 or newer"),
)
_OF_CLIENTS = ("CERTIFICATE_REQUIRED", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED",
               "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE")


def of_server(error: ssl.SSLCertVerificationError, address: str, host: str) -> SplitError:
    """We do not believe the broker's certificate."""
    said = f"certificate of {address}"
    match fault_of(error):
        case Fault.NOT_YET_VALID:
            # A board without a clock of its own boots in the past: it will pass by itself.
            return LinkDown(f"{said} is not valid yet: is this machine's clock right?"
                            " (it is tried again until it is)")
        case Fault.EXPIRED:
            why = "has expired: the broker needs a new one, unless this machine's clock is ahead"
        case Fault.NAME:
            why = (f"is not for {host}: put a name that it is for into broker.url, or have one made"
                   " with this name")
        case Fault.AUTHORITY:
            why = ("was not signed by an authority that is trusted here: put the one that signed"
                   " it into broker.ca_file")
        case _:
            why = "cannot be used: have the broker's certificate made anew"
    return ConfigError(f"{said} {why} ({error.verify_message})")


def of_client(error: ssl.SSLError, address: str) -> SplitError:
    """The broker ended TLS: what it holds against us."""
    reason = error.reason or ""
    for name, meaning in _ALERTS:
        if name in reason:
            kind = PermissionRefused if name in _OF_CLIENTS else LinkDown
            return kind(f"the broker {address} {meaning} ({reason.lower().replace('_', ' ')})")
    return LinkDown(f"TLS with {address}: {error.strerror or error}")


def of_files(error: Exception, files: str) -> str:
    """Why files could not be taken."""
    reason = getattr(error, "reason", None) or ""
    if "KEY_VALUES_MISMATCH" in reason:
        return f"key_file is not the key of cert_file ({files}): they were made apart"
    if "NO_CERTIFICATE" in reason:
        return f"ca_file holds no certificate in PEM ({files})"
    if isinstance(error, ssl.SSLError) and "PEM" in str(error):
        return f"cert_file or key_file is not in PEM, or the key has a pass phrase ({files})"
    return f"TLS files {files}: {error}"
