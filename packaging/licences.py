"""/usr/share/doc/PACKAGE/copyright: ours, and of every wheel inside whose files are which, and the
texts as its makers ship them.

From the wheels' own metadata, so that a new wheel is described anew. It can be no truer than that:
what a wheel does not tell of the libraries linked into it is said to be untold.
"""

from __future__ import annotations

import re
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from recipe import Recipe
from wheels import BuildError

# What a wheel may call its licence files where its metadata does not name them.
_TEXTS = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "licenses/**/*")
# Wordings in metadata for what SPDX, and Debian, call otherwise.
_SHORT = {"Apache 2.0": "Apache-2.0", "Apache Software License": "Apache-2.0",
          "3-Clause BSD License": "BSD-3-Clause", "BSD License": "BSD"}
# Debian has its text in base-files; what is appended to it is not in there.
_APACHE = "Apache-2.0"
_APACHE_BYTES = 11_500
_COMMON = " On Debian systems the text is in /usr/share/common-licenses/Apache-2.0."
_HOLDER = re.compile(r"^[\W_]*copyright\s+(?:\(c\)\s*|©\s*)?(\d{4}.*)$", re.I)


def copyright_of(recipe: Recipe, site: Path) -> str:
    """The file's text. Raises BuildError for a wheel whose licence has no text to be had."""
    parts = ["Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
             "Upstream-Name: edge-agent\n"
             "Comment: The package holds a virtual environment; each wheel in it is named below.",
             f"Files: *\nCopyright: the authors of edge-agent\nLicense: {_APACHE}"]
    wheels = sorted(site.glob("*.dist-info"))
    owners = {path: wheel.name for wheel in wheels for path in _recorded(wheel)}
    for wheel in wheels:
        files = [f"/{recipe.home}/{site.relative_to(site.parents[2])}/{p}"
                 for p in _owned(wheel.name, owners, site)]
        parts.append(_paragraph(wheel, files))
    return "\n\n".join([*parts, f"License: {_APACHE}\n{_COMMON}"]) + "\n"


def _paragraph(wheel: Path, files: list[str]) -> str:
    metadata = HeaderParser().parsestr((wheel / "METADATA").read_text("utf-8"))
    texts, holders = [], []
    for path in _texts(wheel, metadata):
        text = path.read_text("utf-8")
        if path.name.startswith("LICENSE") and _is_apache(text):
            texts.append(f"{path.name}: /usr/share/common-licenses/Apache-2.0")
            continue
        texts.append((f"{path.name}:\n\n" if texts else "") + text.strip("\n"))
        holders += [m[1].strip() for line in text.splitlines() if (m := _HOLDER.match(line))]
    short = _short(metadata)
    if not texts and short != _APACHE:
        raise BuildError(f"{wheel.name} has no text of its licence, {short!r}: Debian's copyright"
                         " file has to have one; choose another version, or add it by hand")
    comment = f"{metadata['Name']} {metadata['Version']}, as its wheel tells."
    if not texts:
        comment += " The wheel has no text of its licence."
    if (wheel / "sboms").is_dir():
        comment += f" What is linked into it is listed in {files[-1].removesuffix('*')}sboms/."
    elif ".so," in (wheel / "RECORD").read_text("utf-8"):
        comment += " It does not list the libraries that are linked into it."
    author = (metadata["Author"] or metadata["Author-email"] or metadata["Maintainer"]
              or metadata["Maintainer-email"] or "its authors")
    return (f"Files: {_lines(files)}\nCopyright: {_lines(list(dict.fromkeys(holders)) or [author])}\n"
            f"License: {short}\n{_field(texts) if texts else _COMMON}\nComment: {comment}")


def _short(metadata: Message) -> str:
    told = (metadata["License-Expression"] or metadata["License"] or "").strip().split("\n")[0]
    # Some have the whole text there, which begins with who holds it.
    if not told or told.startswith("Copyright"):
        told = next((c.split(" :: ")[-1] for c in metadata.get_all("Classifier", [])
                     if c.startswith("License ::")), "see below")
    told = _SHORT.get(told, told)
    return re.sub(r" (OR|AND|WITH) ", lambda m: m[0].lower(), told)


def _texts(wheel: Path, metadata: Message) -> list[Path]:
    named = [wheel / folder / name for name in metadata.get_all("License-File", [])
             for folder in ("licenses", ".")]
    return sorted({p for p in [*named, *(p for t in _TEXTS for p in wheel.glob(t))]
                   if p.is_file()})


def _is_apache(text: str) -> bool:
    return text.split()[:4] == ["Apache", "License", "Version", "2.0,"] and \
        len(text) <= _APACHE_BYTES


def _recorded(wheel: Path) -> list[str]:
    """Paths of a wheel's files, below the folder it is in."""
    lines = (wheel / "RECORD").read_text("utf-8").splitlines()
    return [path for line in lines
            if not (path := line.rsplit(",", 2)[0].strip('"')).startswith(("../", "bin/"))]


def _owned(wheel: str, owners: dict[str, str], site: Path) -> list[str]:
    """The fewest patterns that are of this wheel's files alone; its metadata come last. Some
    wheels share a folder (google, opentelemetry)."""
    mine = [p for p, owner in owners.items() if owner == wheel]
    found = set()
    for path in mine:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth]) + "/"
            if all(owner == wheel for p, owner in owners.items() if p.startswith(folder)):
                found.add(f"{folder}*")
                break
        else:
            found.add(path)
    # What is left out of the package needs no word.
    there = [p for p in found if (site / p.removesuffix("/*")).exists()]
    return sorted(there, key=lambda p: (p.startswith(wheel), p))


def _lines(values: list[str]) -> str:
    return "\n ".join(values)


def _field(texts: list[str]) -> str:
    """As the text of a field: indented, with a dot for an empty line."""
    lines = "\n\n".join(texts).expandtabs().splitlines()
    return "\n".join(f" {line.rstrip()}" if line.strip() else " ." for line in lines)
