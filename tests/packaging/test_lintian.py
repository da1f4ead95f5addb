"""What Debian's own checker says of the packages: no error and no warning, but what
packaging/lintian-overrides gives a reason for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging import roots, story

pytestmark = pytest.mark.check


@pytest.fixture(scope="module", params=("edge-agent-amd64", "cloud-worker-amd64",
                                        "edge-agent-arm64", "cloud-worker-arm64"))
def package(request) -> Path:
    if shutil.which("lintian") is None:
        pytest.skip("no lintian here (Debian: apt install lintian)")
    roots.need("dpkg-deb", "apt-get", "aarch64-linux-gnu-gcc", "x86_64-linux-gnu-gcc")
    name, arch = request.param.rsplit("-", 1)
    (path,) = [p for p in story.built(arch) if p.name.startswith(name)]
    return path


def said(*arguments: str | Path) -> list[str]:
    """Lintian's findings, of all kinds that it was asked for; "N" are its comments."""
    done = subprocess.run(["lintian", "--tag-display-limit", "0", *map(str, arguments)],
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    # 2: something was found; anything else is that it did not run.
    assert done.returncode in (0, 2), done.stderr
    return [line for line in done.stdout.splitlines() if re.match(r"[A-MO-Z]: ", line)]


def test_nothing_is_wrong_that_has_no_reason(package):
    """With what is overridden shown, so that this cannot pass because nothing was looked at."""
    found = said("--show-overrides", package)
    overridden = [line for line in found if line.startswith("O: ")]
    assert [line for line in found if line not in overridden] == []
    assert len(overridden) > 50
    # Our own are stripped, and need no reason.
    assert not [line for line in overridden if "unstripped" in line and "/cext/" in line]


def test_every_override_is_needed(package):
    assert [line for line in said("--display-info", package) if "override" in line] == []


def test_a_fault_would_be_found(package, tmp_path):
    """A library that is executable, in a package of the same control files."""
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True)
    library = next((tree / "usr/lib").rglob("numpy.libs/*.so*"))
    library.chmod(0o755)
    again = tmp_path / package.name
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", str(tree), str(again)],
                   check=True, stdout=subprocess.DEVNULL)
    (found,) = [line for line in said(again) if line.startswith("E: ")]
    assert "shared-library-is-executable" in found and library.name in found
