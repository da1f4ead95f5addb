"""An installation without `cryptography`: all works but keys, and those say what to install."""

from __future__ import annotations

import subprocess
import sys

from tests.crypto.making import key, keys_file
from tests.support.rig import ROOT

# Python takes None in sys.modules for a module that cannot be imported.
_WITHOUT = "import sys; sys.modules['cryptography'] = None; sys.modules['cryptography.exceptions'] = None\n"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _WITHOUT + code], cwd=ROOT, text=True,
                          capture_output=True, timeout=60)


def test_agent_and_worker_load_without_it():
    run = python("import edge_agent.agent, cloud_side.worker; print('ok')")
    assert (run.stdout, run.returncode) == ("ok\n", 0), run.stderr


def test_keys_say_what_to_install(tmp_path):
    path = keys_file(tmp_path, f"fleet {key(1)}")
    config = tmp_path / "worker.toml"
    config.write_text(f'[store]\npath = "{tmp_path}/store"\n[seal]\nkeys_file = "{path}"\n')
    run = python("from cloud_side.cli import main\n"
                 f"sys.exit(main(['run', '-c', {str(config)!r}]))")
    assert run.returncode == 78
    assert "pip install 'edge-agent[e2e]'" in run.stderr
    assert "Traceback" not in run.stderr
