"""Certificates of every kind, good and bad, made in a moment and without a command."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """The files of one certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates for a broker (``server``) and its clients (``client``)."""

    def __init__(self, directory: Path, name: str = "ca"):
        self._directory, self._name = directory, name
        self.file = directory / f"{name}.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(f"test authority {name}")
        usage = x509.KeyUsage(key_cert_sign=True, crl_sign=True, digital_signature=True,
                              content_commitment=False, key_encipherment=False,
                              data_encipherment=False, key_agreement=False, encipher_only=False,
                              decipher_only=False)
        self._issuer = subject
        certificate = (
            self._builder(subject, self._key.public_key(), -1, 2)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False)
            .sign(self._key, hashes.SHA256()))
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "server", *, hosts: tuple[str, ...] = ("127.0.0.1", "localhost"),
               from_days: float = -1, to_days: float = 2,
               usage=ExtendedKeyUsageOID.SERVER_AUTH) -> Certificate:
        """A broker's certificate, valid from and to so many days from now."""
        names = [_general(host) for host in hosts]
        return self._sign(name, hosts[0], usage, from_days, to_days,
                          x509.SubjectAlternativeName(names))

    def client(self, user: str, *, from_days: float = -1, to_days: float = 2) -> Certificate:
        """A client's, whose common name is the user."""
        return self._sign(user, user, ExtendedKeyUsageOID.CLIENT_AUTH, from_days, to_days)

    def _sign(self, file: str, common_name: str, usage, from_days: float, to_days: float,
              *extensions) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_named(common_name), key.public_key(), from_days, to_days)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        for extension in (*extensions, x509.AuthorityKeyIdentifier.from_issuer_public_key(
                self._key.public_key())):
            builder = builder.add_extension(extension, critical=False)
        made = Certificate(self._directory / f"{self._name}-{file}.pem",
                           self._directory / f"{self._name}-{file}.key")
        made.cert.write_bytes(
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        made.key.touch(mode=0o600)
        made.key.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))
        return made

    def _builder(self, subject, public_key, from_days: float, to_days: float):
        now = dt.datetime.now(dt.UTC)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self._issuer)
                .public_key(public_key).serial_number(x509.random_serial_number())
                .not_valid_before(now + from_days * _DAY).not_valid_after(now + to_days * _DAY))


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
