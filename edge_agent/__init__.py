"""The device's side. `EdgeAgent` is the Python API."""

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, load_config
from edge_agent.frames import Answer, Outcome

__all__ = ["AgentConfig", "Answer", "EdgeAgent", "Outcome", "load_config"]
