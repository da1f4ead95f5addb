"""What is published and what arrives, as values.

The size of a PUBLISH packet is computed here, so that an oversize one is refused before the
broker sees it: brokers answer it by closing the connection, and a client that then sends it
again spends a mobile data plan in an afternoon.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_STRING_BYTES = 65_535
_NOT_IN_TOPICS = frozenset("+#\0")


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to publish. The properties below `retain` travel with MQTT 5 only.

    QoS 2 is not offered: nothing of ours needs it, and its four packets cost two round trips.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None

    def __post_init__(self) -> None:
        if not self.topic or not _NOT_IN_TOPICS.isdisjoint(self.topic):
            raise ValueError(f"{self.topic!r} is not a topic to publish to")
        if self.qos not in (0, 1):
            raise ValueError(f"QoS {self.qos}, expected 0 or 1")

    @property
    def has_properties(self) -> bool:
        """Whether any MQTT 5 property is set."""
        return (
            self.expiry_s is not None
            or self.content_type is not None
            or self.response_topic is not None
            or self.correlation is not None
        )


@dataclass(frozen=True, slots=True)
class Received:
    """What came with a message besides topic and payload."""

    qos: int = 0
    retain: bool = False
    expiry_s: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None


def packet_bytes(publication: Publication, protocol: str) -> int:
    """Size of the whole PUBLISH packet, fixed header included."""
    body = 2 + _utf8_bytes(publication.topic) + len(publication.payload)
    if publication.qos:
        body += 2
    if protocol == "5":
        properties = _property_bytes(publication)
        body += _varint_bytes(properties) + properties
    return 1 + _varint_bytes(body) + body


def _property_bytes(publication: Publication) -> int:
    if not publication.has_properties:
        return 0
    size = 0
    if publication.expiry_s is not None:
        size += 1 + 4
    if publication.content_type is not None:
        size += 1 + 2 + _utf8_bytes(publication.content_type)
    if publication.response_topic is not None:
        size += 1 + 2 + _utf8_bytes(publication.response_topic)
    if publication.correlation is not None:
        size += 1 + 2 + len(publication.correlation)
    return size


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _varint_bytes(value: int) -> int:
    return 1 if value < 1 << 7 else 2 if value < 1 << 14 else 3 if value < 1 << 21 else 4
