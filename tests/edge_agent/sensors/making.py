"""A reading as tests compare it."""

from __future__ import annotations

from dataclasses import asdict

from edge_agent.sensors import Health


def known(health: Health) -> dict:
    """What a reading knows, without who said so; finer digits than any sensor has are cut."""
    return {name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(health).items() if value is not None and name != "sources"}
