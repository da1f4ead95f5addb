"""What is in the packages, for both machines, and that the same sources make the same file."""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from split_core.version import VERSION
from tests.packaging import roots, story
from tests.packaging.roots import REPOSITORY

pytestmark = pytest.mark.check
ARCHS = ("amd64", "arm64")
PLACES = ("usr/bin/", "usr/lib/", "usr/share/")


@pytest.fixture(scope="module", autouse=True)
def tools():
    roots.need("dpkg-deb", "apt-get", "aarch64-linux-gnu-gcc", "x86_64-linux-gnu-gcc")


@pytest.fixture(scope="module", params=[(a, n) for a in ARCHS for n in (0, 1)],
                ids=lambda p: f"{('edge-agent', 'cloud-worker')[p[1]]}-{p[0]}")
def package(request) -> Path:
    arch, number = request.param
    return story.built(arch)[number]


@pytest.fixture
def tree(package, tmp_path) -> Path:
    subprocess.run(["dpkg-deb", "-R", str(package), str(tmp_path)], check=True)
    return tmp_path


def test_everything_is_where_it_belongs_and_roots(package):
    listing = subprocess.run(["dpkg-deb", "-c", str(package)], check=True, text=True,
                             capture_output=True).stdout.strip().split("\n")
    assert len(listing) > 500
    for line in listing:
        mode, owner, *_ = line.split()
        path = line.split(" ./", 1)[1]
        assert owner == "root/root", line
        assert mode[0] == "l" or mode[1:] in ("rwxr-xr-x", "rw-r--r--"), line
        assert not path or path.startswith(PLACES) or path == "usr/", line
        assert "/tests/" not in path and not path.endswith((".pyx", ".pyi", ".c", ".h")), line


def test_no_path_of_the_machine_that_built_it_is_inside(tree):
    """In byte code, kernels or scripts."""
    ours = str(REPOSITORY).encode()
    found = [p for p in tree.rglob("*") if p.is_file() and not p.is_symlink()
             and (ours in (text := p.read_bytes()) or str(Path(sys.prefix)).encode() in text)]
    assert found == []


def test_every_module_has_byte_code_that_needs_no_looking_up(tree):
    name = next(p.name for p in (tree / "usr/bin").iterdir())
    site = tree / "usr/lib" / name / "lib/python3.11/site-packages"
    sources = [p for p in site.rglob("*.py")]
    assert len(sources) > 200
    for source in sources:
        code = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        # The second word: based on a hash that is not compared (PEP 552).
        assert code.read_bytes()[4:8] == b"\x01\0\0\0", code


def test_control_tells_what_it_is_and_needs(package, tree):
    control = (tree / "DEBIAN/control").read_text()
    assert f"Version: {VERSION}\n" in control
    assert f"Architecture: {package.stem.rsplit('_', 1)[1]}\n" in control
    assert re.search(r"^Depends: python3 \(>= 3\.11\), python3 \(<< 3\.12\), libc6 \(>= 2\.\d+\)",
                     control, re.M)
    sums = dict(line.split("  ")[::-1] for line in
                (tree / "DEBIAN/md5sums").read_text().strip().split("\n"))
    files = {str(p.relative_to(tree)) for p in tree.rglob("*")
             if p.is_file() and not p.is_symlink() and "DEBIAN" not in p.parts}
    assert sums.keys() == files
    for script in ("postinst", "prerm", "postrm"):
        text = (tree / "DEBIAN" / script).read_text()
        assert "@" not in text.replace("@.service", "").replace("@*.service", ""), script
        subprocess.run(["sh", "-n", str(tree / "DEBIAN" / script)], check=True)


def test_documents_are_there(tree, tmp_path_factory):
    name = next(p.name for p in (tree / "usr/bin").iterdir())
    share = tree / "usr/share"
    assert (share / f"man/man1/{name}.1.gz").exists()
    assert (share / f"bash-completion/completions/{name}").read_text().strip()
    assert (share / f"zsh/vendor-completions/_{name}").read_text().startswith("#compdef")
    # As Debian's own tool reads it.
    changelog = tmp_path_factory.mktemp("changelog") / "changelog"
    changelog.write_bytes(gzip.decompress((share / f"doc/{name}/changelog.gz").read_bytes()))
    done = subprocess.run(["dpkg-parsechangelog", "-l", str(changelog)], text=True, check=True,
                          capture_output=True)
    assert f"Source: {name}\nVersion: {VERSION}\n" in done.stdout and done.stderr == ""


def test_every_file_of_a_wheel_has_its_licence_in_the_copyright_file(tree):
    name = next(p.name for p in (tree / "usr/bin").iterdir())
    site = tree / "usr/lib" / name / "lib/python3.11/site-packages"
    paragraphs = (tree / f"usr/share/doc/{name}/copyright").read_text("utf-8").split("\n\n")
    patterns = []
    for paragraph in paragraphs[2:-1]:
        files, license = re.match(r"Files: (.+(?:\n /.+)*)\nCopyright: .+(?:\n .+)*\n"
                                  r"License: (\S.*)\n .+(?:\n .+)*\nComment: .+$",
                                  paragraph).groups()
        patterns += files.split("\n ")
        assert "see below" not in license
    assert len(list(site.glob("*.dist-info"))) == len(paragraphs) - 3
    ours = {"cext", "split_core", "split_lab", "edge_agent", "cloud_side"}
    for path in site.rglob("*"):
        inside = path.relative_to(site).parts
        if path.is_dir() or inside[0] in ours or "__pycache__" in inside:
            continue
        installed = f"/{path.relative_to(tree)}"
        owners = [p for p in patterns if installed == p
                  or p.endswith("/*") and installed.startswith(p[:-1])]
        assert len(owners) == 1, f"{installed}: {owners}"


def test_a_wheel_without_a_licence_is_not_packed(tmp_path):
    wheel = tmp_path / "lib/python3.11/site-packages/secret-1.0.dist-info"
    wheel.mkdir(parents=True)
    (wheel / "RECORD").write_text("secret-1.0.dist-info/METADATA,,\n")
    (wheel / "METADATA").write_text("Name: secret\nVersion: 1.0\nLicense: Proprietary\n\n")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from pathlib import Path; import licences, recipe\n"
         "licences.copyright_of(recipe.AGENT, Path(sys.argv[1]))", str(wheel.parent)],
        cwd=REPOSITORY / "packaging", text=True, capture_output=True)
    assert done.returncode and "secret-1.0.dist-info has no text of its licence" in done.stderr


def test_the_same_sources_make_the_same_file(tmp_path):
    first = story.built("amd64")[0]
    done = subprocess.run(
        [sys.executable, "packaging/build.py", "--arch", "amd64", "--package", "edge-agent",
         "--output", str(tmp_path)], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (first, tmp_path / first.name)]
    assert digests[0] == digests[1]
