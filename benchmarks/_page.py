"""Parts of a page of results."""

from __future__ import annotations


def table(names: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def where(machine: dict) -> str:
    gpu = machine["gpu"] or "no GPU"
    return (
        f"*Machine: {machine['cpu']}, {machine['logical_cores']} logical cores, "
        f"{machine['memory_gib']} GiB, {gpu}, {machine['system']}; Python {machine['python']}, "
        f"torch {machine['torch']}, {machine['threads']} threads.*"
    )
