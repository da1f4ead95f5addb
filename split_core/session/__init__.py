"""MQTT as the rest of the project sees it: a session, publications, and nothing of paho."""

from split_core.session.guard import SessionStats
from split_core.session.options import BrokerLimits, BrokerOptions, TlsOptions
from split_core.session.publication import Publication, Received
from split_core.session.reactor import Timer
from split_core.session.session import Session
from split_core.session.socket_recipe import LinkInfo

__all__ = [
    "BrokerLimits",
    "BrokerOptions",
    "LinkInfo",
    "Publication",
    "Received",
    "Session",
    "SessionStats",
    "Timer",
    "TlsOptions",
]
