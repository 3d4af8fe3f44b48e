"""`batch`: register the pairs of a table, or one image against many."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

from fireants_engine.cli.progress import Progress, stop_on_interrupt
from fireants_engine.cli.run import load_execution, load_recipe
from fireants_engine.errors import InputError
from fireants_engine.pipeline import Control
from fireants_engine.workflows.batch import (
    SUMMARY_FILE,
    BatchRun,
    Entry,
)
from fireants_engine.workflows.rundir import check_output_folder
from fireants_engine.workflows.tables import Row, pairs_in, read_table, rows_of


def _rows(args: argparse.Namespace) -> list[Row]:
    listed = args.fixed or args.moving
    if (args.table is None) == (not listed):
        raise InputError("Give a TABLE, or --fixed and --moving images; see 'batch --help'.")
    if args.table is None:
        return rows_of(args.fixed, args.moving)
    if not args.table.is_dir():
        return read_table(args.table)
    pairing = pairs_in(args.table)
    if not args.quiet:
        print(f"{args.table}: {pairing.rule}")
    return list(pairing.rows)


def batch(args: argparse.Namespace) -> int:
    """Exit code 0, 1 when a pair has failed, or 130 when interrupted."""
    rows, recipe = _rows(args), load_recipe(args)
    check_output_folder(args.output)
    execution, control = load_execution(args), Control()
    with Progress(args.quiet) as progress, stop_on_interrupt(control, progress):

        def started(entries: Sequence[Entry]) -> None:
            progress.restart([entry.row.name for entry in entries], len(rows))

        run = BatchRun(
            rows,
            recipe,
            args.output,
            args.size,
            execution,
            control,
            args.again,
            on_event=progress,
            on_batch=started,
        )
        entries = run.run()
    counts = Counter(entry.status for entry in entries)
    if not args.quiet:
        for entry in entries:
            if entry.message:
                print(f"{entry.row.name}: {entry.message}")
        told = ", ".join(f"{number} {status}" for status, number in counts.items())
        print(f"{len(rows)} pair(s): {told}. Look at {args.output / SUMMARY_FILE}")
    if control.stopped:
        return 130
    return 1 if counts["failed"] else 0
