"""What a check found, and how findings are made, run and shown."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from split_core.errors import SplitError

State = Literal["ok", "warn", "fail"]
EX_FAILED = 1
_COLOURS = {"ok": "32", "warn": "33", "fail": "31"}
# Of the table, where the terminal does not say.
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor."""

    check: str
    state: State
    found: str
    remedy: str = ""                 # in words; empty when ok


Check = Callable[[], Iterable[Finding]]


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def warn(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, "warn", found, remedy)


def fail(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, "fail", found, remedy)


def examine(checks: Sequence[tuple[str, Check]], program: str,
            on_check: Callable[[str], None] = lambda name: None) -> list[Finding]:
    """Run all checks. One that breaks is a finding, too: the others still have their say."""
    findings = []
    for name, check in checks:
        on_check(name)
        try:
            findings += check()
        except SplitError as e:
            findings.append(fail(name, str(e), f"see `{program} check-config`"))
        except Exception as e:
            findings.append(fail(name, f"the check itself broke: {type(e).__name__}: {e}",
                                 f"a fault of ours; please report it with `{program} diag`"))
    return findings


def exit_code(findings: Iterable[Finding]) -> int:
    """0 unless something failed; a warning is no failure."""
    return EX_FAILED if any(f.state == "fail" for f in findings) else 0


def as_json(findings: Iterable[Finding]) -> str:
    return json.dumps([asdict(f) for f in findings])


def as_table(findings: Sequence[Finding], *, colours: bool = False,
             width: int = _WIDTH) -> str:
    """A line each, remedies below what they are for."""
    name_width = max((len(f.check) for f in findings), default=0)
    indent = name_width + 8
    lines = []
    for f in findings:
        state = f"{f.state:<4}"
        if colours:
            state = f"\033[{_COLOURS[f.state]}m{state}\033[0m"
        first, *more = _wrapped(f.found, width - indent)
        lines.append(f"{state}  {f.check:<{name_width}}  {first}")
        lines += [" " * indent + line for line in more]
        if f.remedy:
            first, *more = _wrapped(f.remedy, width - indent - 4)
            lines.append(f"{' ' * indent}--> {first}")
            lines += [" " * (indent + 4) + line for line in more]
    return "\n".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    counts = {state: sum(f.state == state for f in findings) for state in ("fail", "warn")}
    if not any(counts.values()):
        return f"{len(findings)} checks, all ok"
    return (f"{len(findings)} checks, {counts['fail']} failed,"
            f" {counts['warn']} warning{'s' if counts['warn'] != 1 else ''}")


def _wrapped(text: str, width: int) -> list[str]:
    # Commands and paths are to be copied: never broken.
    return textwrap.wrap(text, max(width, 40), break_long_words=False,
                         break_on_hyphens=False) or [""]
