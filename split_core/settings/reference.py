"""The reference of all keys, made of the Structs and the comments above their fields."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from split_core.settings.keys import Key, describe, is_struct, keys_of, may_be_none, sections
from split_core.settings.layers import prefix_of
from split_core.settings.show import toml_value


def render(program: str, kind: type, usual_file: str) -> str:
    """The reference of a program as Markdown."""
    parts = [_head(program, usual_file)]
    plain = [k for k in keys_of(kind) if "." not in k.path]
    parts += [f"### At the top\n\n{_table(plain)}"]
    for path, section in _all_sections(kind):
        own = [k for k in keys_of(section, path + ".") if k.path.rpartition(".")[0] == path]
        about = " ".join((inspect.getdoc(section) or "").split())
        parts.append(f"### [{path}]\n\n{about}\n\n{_table(own)}")
    return "\n\n".join(parts) + "\n"


def _head(program: str, usual_file: str) -> str:
    prefix = prefix_of(program)
    return f"""\
## {program}

`{program} config reference` prints this part; `make reference` writes the page. A value is taken from the last of these that has it:

1. the default, as below;
2. the file that `-c` names, `{usual_file}` for the service;
3. the files in `conf.d/` beside it, by name (`*.toml`);
4. the environment: `{prefix}BROKER__URL` is `broker.url`. Text is taken as it is, anything else as TOML has it (`5`, `true`, `["a", "b"]`);
5. flags of the command.

Secrets are never in these files. Keys that end in `_file` name a file; `$CREDENTIALS_DIRECTORY/NAME` in it is what the service is given (`LoadCredential=`): its unit hands over each file of the secrets folder as `$CREDENTIALS_DIRECTORY/secrets_NAME`. `{program} config show --sources` prints what is in force and where it is from."""


def _table(keys: list[Key]) -> str:
    lines = ["| key | what | default |", "|---|---|---|"]
    for key in keys:
        kind = describe(key.type)
        what = comments(key.owner).get(key.name, "")
        what = f"{what} " if what else ""
        text = f"| `{key.name}` | {what}*{kind}* | {default_of(key)} |"
        lines.append(text)
    return "\n".join(lines)


def default_of(key: Key) -> str:
    """A key's default in words."""
    if key.required:
        return "needed"
    value = _default(key)
    if callable(value):
        return (inspect.getdoc(value) or "made up").rstrip(".")
    if value is None:
        return "none" if may_be_none(key.type) else ""
    return f"`{toml_value(msgspec.to_builtins(value))}`"


def _default(key: Key) -> Any:
    (field,) = (f for f in msgspec.structs.fields(key.owner) if f.encode_name == key.name)
    if field.default is not msgspec.NODEFAULT:
        return field.default
    factory = field.default_factory
    # The Structs' own mutable defaults are classes: list, dict.
    return factory() if isinstance(factory, type) else factory


def _all_sections(kind: type, prefix: str = "") -> Iterator[tuple[str, type]]:
    for name, section in sections(kind).items():
        yield prefix + name, section
        yield from _all_sections(section, f"{prefix}{name}.")


@cache
def comments(owner: type) -> dict[str, str]:
    """The comment above each field of a Struct, those it inherits among them."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        if is_struct(base) and base is not msgspec.Struct:
            found |= _own_comments(base)
    return found


def _own_comments(owner: type) -> dict[str, str]:
    lines = inspect.getsource(owner).splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    (node,) = ast.parse("\n".join(line[indent:] for line in lines)).body
    found = {}
    for field in node.body:
        if isinstance(field, ast.AnnAssign):
            above, at = [], field.lineno - 2
            while at >= 0 and lines[at].strip().startswith("#"):
                above.insert(0, lines[at].strip().lstrip("#").strip())
                at -= 1
            if above:
                found[field.target.id] = _cell(" ".join(above))
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
