"""The agent's settings: one TOML file, every key with its default and unit."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_agent.models.config import UpdatesConfig
from edge_agent.policies.config import CostConfig, EnergyConfig, PolicyConfig, check_energy
from edge_agent.remote.config import CommandsConfig, HealthConfig, HomeAssistantConfig
from edge_agent.results.topic import check_template
from edge_agent.sensors.config import SensorsConfig
from split_core.config import BrokerConfig, host_name
from split_core.crypto.config import SealConfig
from split_core.errors import ConfigError
from split_core.service.config import ServiceConfig
from split_core.listen import MetricsConfig
from split_core.settings.layers import load_settings
from split_core.tracing import TraceConfig
from split_core.wire.rungs import Rung
from split_core.wire.topics import DEFAULT_ROOT, check_node_id, check_root


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What runs."""

    # A bundle made by `edge-agent split`.
    bundle: str
    # "litert" or "tflite-runtime"; by default the better one that is installed.
    runtime: Literal["litert", "tflite-runtime"] | None = None
    # Of the interpreter.
    threads: int = 1


class PlanConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fixed plan. Without a cut and a rung the agent plans for itself, by [policy]."""

    # Number of ops that run here; the model's number of ops is all-local. With a rung alone: the
    # cheapest to send of those with at most half of the work on the device.
    cut: int | None = None
    # "raw"; "q1" to "q8" (bits); "jpeg1" to "jpeg100" or "webp1" to "webp100" (cut 0 of an image
    # model); of a calibrated cut "kl0.02" (divergence from the whole model, nats) or "b2500"
    # (bytes), with "+refine" in two layers. By default kl0.02 where the cut is calibrated, else q4.
    rung: str | None = None
    # A worker's id; by default one is chosen.
    worker: str | None = None

    @property
    def fixed(self) -> bool:
        return self.cut is not None or self.rung is not None


class FrameConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of every frame."""

    # An answer is wanted this long after capture.
    deadline_ms: float = 1000.0
    # Frames taken from the source in a second, at most; 0: as they come.
    max_fps: float = 0.0


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where frames come from."""

    # What they are: "none" where another program hands them in through the Python API.
    kind: Literal["none", "file", "folder", "camera", "csi", "mqtt", "stdin"] = "none"
    # File or folder; for a camera a device (/dev/video0, a number) or an rtsp:// URL.
    path: str = ""
    # For file and folder: begin again after the last.
    loop: bool = False
    # For mqtt: the topic of JPEG or PNG pictures; by default {root}/{id}/dn/frame.
    topic: str | None = None
    # Of a camera's pictures, asked for in pixels; the camera may give others.
    width: int = 640
    # Likewise.
    height: int = 480


class ResultConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where answers go."""

    # By default {root}/{id}/up/result. {id}, {source}, {outcome} and {label} (of the best class
    # or surest object, or the text) are filled in.
    topic: str | None = None
    # Of a classification: the most likely labels, so many.
    top_k: int = 5
    # The model's outputs as they are, too.
    raw_tensors: bool = False
    # Also say which frames were dropped.
    dropped: bool = False
    # Results kept while the broker is away, at most; the oldest go first.
    spool_results: int = 1000
    # The same in kB of memory.
    spool_kb: int = 1024
    # A JSON line for every frame is appended here.
    journal: str | None = None
    # MB, at most; beyond it the journal is renamed to ".1", in place of an older one, and begun
    # anew.
    journal_mb: float = 64.0


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    model: ModelConfig
    # A topic level and the MQTT user name: A-Z a-z 0-9 . _ -
    id: str = msgspec.field(default_factory=host_name)
    # What all topics begin with; the same for devices and workers that are to meet.
    root: str = DEFAULT_ROOT
    broker: BrokerConfig = BrokerConfig()
    seal: SealConfig = SealConfig()
    plan: PlanConfig = PlanConfig()
    policy: PolicyConfig = PolicyConfig()
    cost: CostConfig = CostConfig()
    energy: EnergyConfig = EnergyConfig()
    sensors: SensorsConfig = SensorsConfig()
    frame: FrameConfig = FrameConfig()
    source: SourceConfig = SourceConfig()
    result: ResultConfig = ResultConfig()
    health: HealthConfig = HealthConfig()
    commands: CommandsConfig = CommandsConfig()
    homeassistant: HomeAssistantConfig = HomeAssistantConfig()
    metrics: MetricsConfig = MetricsConfig()
    trace: TraceConfig = TraceConfig()
    updates: UpdatesConfig = UpdatesConfig()
    service: ServiceConfig = ServiceConfig()
    # Profiles, and what was sent today; by default $STATE_DIRECTORY, else
    # ~/.local/state/edge-agent.
    state_dir: str | None = None

    def check(self) -> None:
        """Raises ConfigError for values that cannot work."""
        check_node_id(self.id)
        check_root(self.root)
        self.service.check()
        if self.plan.worker is not None:
            check_node_id(self.plan.worker)
            trusted = self.policy.trusted_workers
            if trusted is not None and self.plan.worker not in trusted:
                raise ConfigError(f"plan.worker {self.plan.worker} is not among"
                                  " policy.trusted_workers")
        self.rung()
        self.policy.check()
        self.cost.check()
        check_energy(self.energy)
        self.sensors.check()
        self.health.check()
        self.homeassistant.check()
        self.metrics.check()
        self.trace.check()
        self.updates.check()
        if not 0 < self.frame.deadline_ms < 1e9:     # also NaN and inf, which TOML can write
            raise ConfigError(f"frame.deadline_ms is {self.frame.deadline_ms}, wanted more"
                              " than 0")
        if not 0 <= self.frame.max_fps < 1e9:
            raise ConfigError(f"frame.max_fps is {self.frame.max_fps}, wanted 0 or more")
        if self.model.threads < 1:
            raise ConfigError(f"model.threads is {self.model.threads}, wanted at least 1")
        topic = self.source.topic
        if topic is not None and (not topic or any(c in topic for c in "+#\0")):
            raise ConfigError(f"source.topic is {topic!r}, wanted one topic, without + and #")
        if self.result.topic is not None:
            check_template(self.result.topic)
        if not 0.1 <= self.result.journal_mb <= 1e6:
            raise ConfigError(f"result.journal_mb is {self.result.journal_mb}, wanted 0.1 to"
                              " 1e+06")
        if self.source.kind in ("file", "folder", "camera") and not self.source.path:
            raise ConfigError(f"source.path is needed for a source of kind {self.source.kind}")

    def rung(self) -> Rung | None:
        """The rung of the plan; None leaves it to the bundle. Raises ConfigError."""
        return None if self.plan.rung is None else parse_rung(self.plan.rung)


def parse_rung(name: str) -> Rung:
    """The rung of a name in a configuration or command. Raises ConfigError."""
    try:
        return Rung.parse(name)
    except ValueError as e:
        raise ConfigError(f"plan.rung: {e}") from None


def load_config(path: str) -> AgentConfig:
    """The settings in force: a file, `conf.d` beside it, the environment. Raises ConfigError that
    says all that is wrong."""
    return load_settings(path, AgentConfig, "edge-agent").config
