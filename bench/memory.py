"""Memory of the agent against a bare process that runs the same whole model.

`python -m bench.memory`: each in a process of its own, after 50 frames; the agent sends its
boundary to a real worker and also keeps the whole model ready for fallbacks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import rig
from split_core.model.runner import available_runtimes
from split_lab.split import split_model

_FRAMES = 50
_MODELS = ["tf2_mobilenet_v2_1.0_224_ptq", "mobilenet_v1_0.25_128_quant", "vww_96_float"]

_BARE = """
import importlib, json, sys
import numpy as np
module, model, frames = sys.argv[1:]
i = importlib.import_module(module).Interpreter(model, num_threads=1)
i.allocate_tensors()
d, o = i.get_input_details()[0], i.get_output_details()[0]
x = np.zeros(d["shape"], d["dtype"])
for _ in range(int(frames)):
    i.set_tensor(d["index"], x); i.invoke(); i.get_tensor(o["index"])
"""
_REPORT = """
fields = dict(line.split(":") for line in open("/proc/self/smaps_rollup").readlines()[1:])
print(json.dumps({k: int(fields[k].split()[0]) / 1024 for k in ("Rss", "Pss")}))
"""
_AGENT = """
import json, sys, time
import numpy as np
from edge_agent import AgentConfig, EdgeAgent
from edge_agent.config import ModelConfig, PlanConfig
from split_core.config import BrokerConfig
runtime, bundle, frames, url = sys.argv[1:]
config = AgentConfig(model=ModelConfig(bundle, runtime=runtime), id="bench-memory",
                     broker=BrokerConfig(url=url), plan=PlanConfig(rung="q4"))
agent = EdgeAgent(config, ephemeral=True)
agent.start()
while agent.missing():
    time.sleep(0.01)
name = agent.bundle.manifest.inputs[0]
spec = agent.bundle.specs[name]
for _ in range(int(frames)):
    answer = agent.infer({name: np.zeros(spec.shape, spec.np_dtype)})
assert agent.ledger.counts["remote"] > 0.9 * int(frames), agent.ledger.counts
"""


def run(code: str, *arguments: str) -> dict:
    child = subprocess.run([sys.executable, "-c", code + _REPORT, *arguments], check=True,
                           capture_output=True, text=True, timeout=120)
    return json.loads(child.stdout.splitlines()[-1])


def main() -> int:
    from split_core.model.runner import RUNTIMES

    rows = []
    with tempfile.TemporaryDirectory() as folder, rig.mosquitto() as broker, rig.worker(broker):
        for name in _MODELS:
            model = rig.SHARED / "models" / f"{name}.tflite"
            if not model.exists():
                print(f"bench.memory: no {model}: skipped", file=sys.stderr)
                continue
            bundle = Path(folder) / f"{name}.split.tflite"
            bundle.write_bytes(split_model(model))
            for runtime in available_runtimes():
                rig.progress(f"{name} {runtime}")
                bare = run(_BARE, RUNTIMES[runtime], str(model), str(_FRAMES))
                ours = run(_AGENT, runtime, str(bundle), str(_FRAMES), broker.url)
                rows.append({"model": name, "runtime": runtime, "bare_mb": bare,
                             "agent_mb": ours,
                             "extra_mb": round(ours["Rss"] - bare["Rss"], 1)})
    rig.progress("")
    print(f"{'model':<32}{'runtime':<16}{'bare MB':>9}{'agent MB':>9}{'extra':>7}  goal 25 MB")
    for r in rows:
        print(f"{r['model']:<32}{r['runtime']:<16}{r['bare_mb']['Rss']:>9.1f}"
              f"{r['agent_mb']['Rss']:>9.1f}{r['extra_mb']:>7.1f}"
              f"  {'met' if r['extra_mb'] <= 25 else 'MISSED'}")
    print(rig.save("memory", rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
