"""What a deployment runs on: this board, or in field tests one that is slower."""

from __future__ import annotations

from edge_agent.config import AgentConfig
from edge_agent.control.profiles import device_profile, refresh
from edge_agent.inference.encoder import Encoder
from edge_agent.inference.segment_times import SegmentTimes
from split_core.cost.profile import Profile
from split_core.model.bundle import Bundle
from split_core.model.runner import Runner


class Machine:
    """The board itself."""

    def runner(self, bundle: Bundle, config: AgentConfig) -> Runner:
        return Runner(bundle, runtime=config.model.runtime, threads=config.model.threads)

    def encoder(self, bundle: Bundle) -> Encoder:
        return Encoder(bundle)

    def load_profile(self, bundle: Bundle, config: AgentConfig) -> Profile:
        """What the bundle takes here, as kept or measured now."""
        return device_profile(config, bundle)

    def keep_profile(self, profile: Profile, times: SegmentTimes, config: AgentConfig) -> None:
        """What frames taught, for the next start."""
        refresh(config, profile, times)
