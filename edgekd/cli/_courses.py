"""What was measured beside the timing: threads and spinning, the long run, the energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from edgekd.cli._tables import Grid, print_line

NONE = "-"


def print_courses(console: Console, name: str, record: Mapping[str, Any]) -> None:
    """All of it that was asked for.

    Args:
        console: where to.
        name: what the model is called.
        record: its measurement.
    """
    if record["sweep"] is not None:
        _print_sweep(console, name, record["sweep"])
    if record["sustained"]:
        _print_sustained(console, name, record["sustained"])
    if record["energy"] is not None:
        print_line(console, f"{name} takes {energy(record['energy'])}.")


def energy(found: Mapping[str, Any]) -> str:
    """Joules a run, with what they were found from."""
    joules = found["j_per_inference"]
    amount = f"{1000 * joules:.3g} mJ" if abs(joules) < 1 else f"{joules:.3g} J"
    return (
        f"{amount} a run above idle ({found['scope']}, {found['meter']} at "
        f"{found['rate_hz']:.3g} Hz: {found['busy_w']:.3g} W busy, {found['idle_w']:.3g} W idle, "
        f"{found['n']:,} runs in {found['seconds']:.0f} s)"
    )


def _print_sweep(console: Console, name: str, sweep: Mapping[str, Any]) -> None:
    print_line(console, f"{name}, threads and spinning:")
    table = Grid("threads", "spinning", "median", "p95", "CPU a run", "state", "best for")
    for index, row in enumerate(sweep["rows"]):
        best = {"latency": sweep["best_latency"], "CPU time": sweep["best_cpu"]}
        table.add_row(
            str(row["threads"]),
            "on" if row["spinning"] else "off",
            _ms(row["median"]),
            _ms(row["p95"]),
            _ms(row["cpu_ms"]),
            row["state"],
            ", ".join(word for word, at in best.items() if at == index),
        )
    table.print(console)


def _print_sustained(console: Console, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    print_line(console, f"{name}, going on (top MHz: the fastest of the cores used):")
    table = Grid("minute", "median", "p95", "CPU a run", "runs", "°C", "top MHz", "throttle")
    for row in rows:
        heat, clock, bits = row["temperature_c"], row["core_khz"], row["throttle_bits"]
        table.add_row(
            f"{row['minute']:.3g}",
            _ms(row["median"]),
            _ms(row["p95"]),
            _ms(row["cpu_ms"]),
            f"{row['n']:,}",
            NONE if heat is None else f"{heat:.0f}",
            NONE if clock is None else f"{clock / 1000:,.0f}",
            NONE if bits is None else f"{bits:#x}",
        )
    table.print(console)
    first, last = rows[0]["median"], rows[-1]["median"]
    if len(rows) > 1:
        print_line(
            console,
            f"From minute {rows[0]['minute']:.3g} to {rows[-1]['minute']:.3g} its median went from "
            f"{_ms(first)} to {_ms(last)} ({last / first - 1:+.1%}).",
        )


def _ms(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g} ms"
