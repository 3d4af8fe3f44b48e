"""What the steps of `histology` have alike."""

from __future__ import annotations

import argparse
from pathlib import Path


def step_parser(
    steps: argparse._SubParsersAction, name: str, brief: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """The parser of a step, with where its results go and a recipe; without the options that all
    commands have."""
    parser = steps.add_parser(
        name,
        help=brief,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="recipe of your own, YAML")
    return parser
