"""The kernel table: frozen, complete, chosen aloud."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from fireants_engine.errors import BackendUnavailableError
from fireants_engine.kernels import BACKENDS, REFERENCE, describe, select


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_every_backend_fills_every_slot(name: str) -> None:
    table = BACKENDS[name]
    assert table.name == name
    functions = [f.name for f in fields(table) if f.name != "name"]
    assert all(callable(getattr(table, f)) for f in functions)
    assert set(describe(table)) == set(functions)


def test_a_table_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        REFERENCE.warp = print  # type: ignore[misc]


def test_a_backend_that_is_absent_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(BackendUnavailableError, match=r"'quantum'.*reference"):
        select("quantum")


def test_auto_says_what_it_chose() -> None:
    table, why = select("auto", "cpu")
    assert table.name in why
    assert "cpu" in why
    assert select("reference")[0] is REFERENCE
