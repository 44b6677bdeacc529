"""How a proof is shown: to people as a table, to auditors as JSON, to both as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .finding import Finding, Part, Proof, Use

COLUMNS = ("path", "provider", "verdict", "reason")

# Fill and border of a part, by its verdict. The words of the legend are on the parts, so nobody has to see colours.
COLOURS = MappingProxyType(
    {
        "per key": ("#cfe2ff", "#084298"),
        "fresh": ("#d1e7dd", "#0f5132"),
        "fresh, checked": ("#d1e7dd", "#0f5132"),
        "fresh, probed": ("#d1e7dd", "#0f5132"),
        "immutable": ("#e2e3e5", "#41464b"),
        "shared": ("#fff3cd", "#997404"),
        "leak": ("#f8d7da", "#842029"),
        "unknown": ("#f8d7da", "#842029"),
    }
)
OTHER = ("#ffffff", "#6c757d")
GROUPS = MappingProxyType(
    {"per key": "per user", "fresh": "fresh", "fresh, checked": "fresh", "fresh, probed": "fresh", "shared": "shared"}
    | {"leak": "not proved", "unknown": "not proved"}
)


def table(proof: Proof) -> str:
    """Give the findings as aligned columns, failures first."""
    findings = sorted(proof.findings, key=lambda finding: not finding.failed)
    rows: list[tuple[str, ...]] = [COLUMNS, *map(row, findings)]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(COLUMNS) - 1)]
    rows.insert(1, tuple("-" * width for width in (*widths, len(COLUMNS[-1]))))
    text = ["  ".join((*map(str.ljust, cells, widths), cells[-1])) for cells in rows]
    failures = len(proof.failures)
    result = "proved" if proof.ok else f"NOT PROVED, {failures} failure{'s' * (failures != 1)}"
    return "\n".join((f"{proof.container}: {result}", "", *text))


def row(finding: Finding) -> tuple[str, ...]:
    """Give the cells of a finding."""
    provider = f"{finding.provider}({finding.provides})" if finding.provides else finding.provider
    return (" → ".join(finding.path), provider, finding.verdict.value, finding.reason)


def json_text(proof: Proof) -> str:
    """Give a proof as JSON: what the findings say, and of what, by what and when they were made."""
    return json.dumps(
        {
            "container": proof.container,
            "proved": proof.ok,
            "graph_sha256": proof.digest,
            "version": proof.version,
            "time": proof.time.isoformat(),
            "findings": [
                {
                    "path": list(finding.path),
                    "provider": finding.provider,
                    "provides": finding.provides,
                    "verdict": finding.verdict.value,
                    "reason": finding.reason,
                }
                for finding in proof.findings
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def caption(part: Part) -> tuple[str, str, str]:
    """Give the lines of text on a part: name, what it is, verdict."""
    provides = part.provides.rpartition(".")[2]
    return part.name, f"{part.provider}({provides})", GROUPS.get(part.verdict.value, part.verdict.value)


def argument(use: Use) -> str:
    """Give the label of a line; positions of arguments are left out."""
    return "" if use.label[1:-1].isdecimal() else use.label


def dot(proof: Proof) -> str:
    """Give the wiring in the language of Graphviz."""
    lines = ["digraph wiring {", '  rankdir="LR";', '  node [shape="box", style="filled", fontname="sans-serif"];']
    for index, part in enumerate(proof.parts):
        fill, border = COLOURS.get(part.verdict.value, OTHER)
        label = "\\n".join(map(escaped, caption(part)))
        lines.append(
            f'  n{index} [label="{label}", tooltip="{escaped(part.reason)}", fillcolor="{fill}", color="{border}"];'
        )
    lines += [
        f'  n{use.user} -> n{use.used} [label="{escaped(argument(use))}", style="{style}"];'
        for use, style in ((use, "solid" if use.how in ("makes", "receives") else "dashed") for use in proof.uses)
    ]
    return "\n".join((*lines, "}", ""))


def escaped(text: str) -> str:
    """Escape a string of the DOT language."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def mermaid(proof: Proof) -> str:
    """Give the wiring as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    for index, part in enumerate(proof.parts):
        lines.append(f'  n{index}["{"<br>".join(map(entities, caption(part)))}"]')
    for use in proof.uses:
        arrow = "-->" if use.how in ("makes", "receives") else "-.->"
        label = f'|"{entities(argument(use))}"|' if argument(use) else ""
        lines.append(f"  n{use.user} {arrow}{label} n{use.used}")
    lines += styles(proof.parts)
    return "\n".join((*lines, ""))


def styles(parts: Iterable[Part]) -> list[str]:
    """Give the classes of a Mermaid flowchart and who is in them."""
    members: dict[tuple[str, str], list[str]] = {}
    for index, part in enumerate(parts):
        members.setdefault(COLOURS.get(part.verdict.value, OTHER), []).append(f"n{index}")
    lines = []
    for number, ((fill, border), names) in enumerate(members.items()):
        lines.append(f"  classDef c{number} fill:{fill},stroke:{border},color:#000000")
        lines.append(f"  class {','.join(names)} c{number}")
    return lines


def entities(text: str) -> str:
    """Escape a label of Mermaid, which takes HTML entities with a ``#`` for the ``&``."""
    escapes = {"#": "#35;", "&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;"}
    return "".join(escapes.get(character, character) for character in text)
