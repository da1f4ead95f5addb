"""Before a field test: the worker has the bundle. Its way there is not what is measured."""

from __future__ import annotations

import os
import sys
import time

import msgspec

from edge_agent.agent import EdgeAgent
from edge_agent.config import AgentConfig, PlanConfig
from split_core.errors import LinkDown
from split_core.model.bundle import open_bundle

_LIMIT_S = 300.0
_SAY_S = 2.0


def hand_over_bundle(config: AgentConfig) -> None:
    """Connect without an emulated link until a worker holds the bundle. Raises LinkDown."""
    # All-local: this agent sends no frame, so it is under any policy.
    plan = PlanConfig(cut=open_bundle(config.model.bundle).last_cut, worker=config.plan.worker)
    config = msgspec.structs.replace(config, id=f"{config.id[:40]}-warm-{os.getpid()}", plan=plan)
    begin_s, said = time.monotonic(), ""
    with EdgeAgent(config, ephemeral=True) as agent:
        while (missing := agent.missing()) is not None:
            waited_s = time.monotonic() - begin_s
            if waited_s > _LIMIT_S:
                raise LinkDown(f"{missing} after {_LIMIT_S:.0f} s; start broker and worker, or"
                               " let --stack do it")
            if waited_s > _SAY_S and missing != said:
                print(f"edge-agent: waiting: {missing}", file=sys.stderr)
                said = missing
            time.sleep(0.05)
