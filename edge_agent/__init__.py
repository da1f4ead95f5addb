"""The device's side. `EdgeAgent` is the Python API.

Names are loaded when first used, so that `edge-agent --help` does not wait for NumPy.
"""

from importlib import import_module

_HOMES = {
    "AgentConfig": "edge_agent.config", "Answer": "edge_agent.frames",
    "EdgeAgent": "edge_agent.agent", "Outcome": "edge_agent.frames",
    "load_config": "edge_agent.config",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
