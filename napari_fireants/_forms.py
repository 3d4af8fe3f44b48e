"""From the recipe's schema to Qt: titles, limits, units and tooltips all come from the schema.

`make_editor(node, root)` returns an Editor for one schema node; `value()` gives plain JSON data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_fireants._fields import DecimalBox, Section, guard_wheel, small_button

Schema = dict[str, Any]
_NAMES = {
    "adam": "Adam",
    "rmsprop": "RMSprop",
    "levenberg_marquardt": "Levenberg-Marquardt",
    "dice": "Dice",
    "free_form": "Free-form",
    "diffusion": "Smoothness: diffusion",
    "elastic": "Smoothness: elastic",
    "laplacian": "Smoothness: Laplacian",
    "bending": "Smoothness: bending",
    "jacobian": "Volume: Jacobian",
}


def resolve(node: Schema, root: Schema) -> Schema:
    """`node` with its $ref followed; keys beside the $ref win."""
    if "$ref" not in node:
        return node
    target = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{k: v for k, v in node.items() if k != "$ref"}}


def kind_label(kind: str) -> str:
    """A name for people of a `kind` in the schema: abbreviations in capitals."""
    if kind in _NAMES:
        return _NAMES[kind]
    return kind.upper() if len(kind) <= 4 else kind.replace("_", " ").capitalize()


def kind_of(node: Schema) -> str:
    return str(node.get("properties", {}).get("kind", {}).get("const", ""))


def example(node: Schema, root: Schema) -> Any:
    """Default data for `node`."""
    node = resolve(node, root)
    if "default" in node:
        return node["default"]
    if "const" in node:
        return node["const"]
    if "oneOf" in node:
        return example(node["oneOf"][0], root)
    if node.get("type") == "array":
        return [example(node["items"], root) for _ in range(node.get("minItems", 0))]
    return {name: example(sub, root) for name, sub in node.get("properties", {}).items()}


class Editor(QWidget):
    """A widget for one schema node. `changed` fires on a person's edits only."""

    changed = Signal()

    def value(self) -> Any:
        raise NotImplementedError


class ValueEditor(Editor):
    """A number, a choice, a switch or a text."""

    def __init__(self, node: Schema, value: Any) -> None:
        super().__init__()
        self._widget, self._read, signal = _leaf(node, value)
        self._widget.setToolTip(node.get("description", ""))
        self._widget.setAccessibleName(node.get("title", ""))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._widget)
        signal.connect(lambda *_: self.changed.emit())

    def value(self) -> Any:
        return self._read()


def _leaf(node: Schema, value: Any) -> tuple[QWidget, Callable[[], Any], Any]:
    """Widget, how to read it, and its change signal."""
    unit = node.get("unit", "")
    if "enum" in node:
        combo = QComboBox()
        for option in node["enum"]:
            combo.addItem(str(option), option)
        combo.setCurrentIndex(max(0, combo.findData(value)))
        return guard_wheel(combo), combo.currentData, combo.currentIndexChanged
    if node["type"] == "boolean":
        box = QCheckBox()
        box.setChecked(bool(value))
        return box, box.isChecked, box.toggled
    if node["type"] == "string":
        line = QLineEdit(str(value))
        return line, line.text, line.editingFinished
    whole = node["type"] == "integer"
    spin = QSpinBox() if whole else DecimalBox()
    low = node.get("minimum", node.get("exclusiveMinimum", -1_000_000_000))
    high = node.get("maximum", node.get("exclusiveMaximum", 1_000_000_000))
    if not whole:
        spin.setDecimals(4)
        step = 0.05 if high <= 1 else 0.1
        spin.setSingleStep(step)
        low = low + 1e-4 if "exclusiveMinimum" in node else low
        high = high - 1e-4 if "exclusiveMaximum" in node else high
    spin.setRange(low, high)
    spin.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    spin.setValue(value)
    spin.setKeyboardTracking(False)
    if unit:
        spin.setSuffix(unit if unit == "x" else f" {unit}")
    return guard_wheel(spin), spin.value, spin.valueChanged


class NumbersEditor(Editor):
    """A few numbers in one line, separated by commas; what is no number is put back."""

    def __init__(self, node: Schema, value: list[float]) -> None:
        super().__init__()
        self._read = int if node["items"].get("type") == "integer" else float
        self._value = list(value)
        self._line = QLineEdit()
        self._line.setPlaceholderText("default")
        self._line.setToolTip(node.get("description", ""))
        self._line.setAccessibleName(node.get("title", ""))
        self._line.editingFinished.connect(self._edited)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._line)
        self._show()

    def _show(self) -> None:
        self._line.setText(", ".join(f"{number:g}" for number in self._value))

    def _edited(self) -> None:
        texts = self._line.text().replace(";", ",").replace(" ", ",").split(",")
        try:
            value = [self._read(text) for text in texts if text]
        except ValueError:
            value = self._value
        changed, self._value = value != self._value, value
        self._show()
        if changed:
            self.changed.emit()

    def value(self) -> list[float]:
        return list(self._value)


class ObjectEditor(Editor):
    """All properties of an object in a form; properties in `skip` are kept but not shown.

    Those the schema calls advanced are folded away at the end.
    """

    def __init__(
        self, node: Schema, root: Schema, value: dict[str, Any], skip: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self._fixed = {}
        self._editors: dict[str, Editor] = {}
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(3)
        forms = {False: _form(), True: _form()}
        for name, raw in node.get("properties", {}).items():
            sub = resolve(raw, root)
            present = value[name] if name in value else example(sub, root)
            if "const" in sub or name in skip:
                self._fixed[name] = present
                continue
            editor = make_editor(sub, root, present)
            editor.changed.connect(self.changed)
            self._editors[name] = editor
            form = forms[bool(sub.get("advanced"))]
            title = _title(name, sub)
            if isinstance(editor, ValueEditor | NumbersEditor):
                label = QLabel(title)
                label.setToolTip(sub.get("description", ""))
                label.setWordWrap(True)
                form.addRow(label, editor)
            else:
                form.addRow(_heading(title, sub.get("description", "")))
                form.addRow(editor)
        box.addLayout(forms[False])
        if forms[True].rowCount():
            more = QWidget()
            more.setLayout(forms[True])
            box.addWidget(Section("More", more))

    def value(self) -> dict[str, Any]:
        return {**self._fixed, **{name: e.value() for name, e in self._editors.items()}}


def _form() -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(3)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    return form


def _title(name: str, node: Schema) -> str:
    title = node.get("title", name)
    return name.capitalize() if title.endswith("Spec") else title


def _heading(title: str, tip: str) -> QLabel:
    label = QLabel(f"<b>{title}</b>")
    label.setToolTip(tip)
    label.setContentsMargins(0, 6, 0, 0)
    return label


class UnionEditor(Editor):
    """One of several kinds of object: a choice, and the form of the chosen kind."""

    def __init__(self, node: Schema, root: Schema, value: dict[str, Any]) -> None:
        super().__init__()
        self._root = root
        self._kinds = {kind_of(resolve(n, root)): resolve(n, root) for n in node["oneOf"]}
        self.combo = QComboBox()
        for kind, option in self._kinds.items():
            self.combo.addItem(kind_label(kind), kind)
            tip = option.get("description", "")
            self.combo.setItemData(self.combo.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.combo.setCurrentIndex(self.combo.findData(value["kind"]))
        self.combo.setAccessibleName(f"Kind of {node.get('title', 'entry').lower()}")
        guard_wheel(self.combo)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(3)
        self.header = QHBoxLayout()
        self.header.addWidget(self.combo, 1)
        self._layout.addLayout(self.header)
        self._form: ObjectEditor | None = None
        self._show(value)
        self.combo.currentIndexChanged.connect(self._chosen)

    def _show(self, value: dict[str, Any]) -> None:
        if self._form is not None:
            self._layout.removeWidget(self._form)
            self._form.hide()
            self._form.deleteLater()
        node = self._kinds[value["kind"]]
        self.combo.setToolTip(node.get("description", ""))
        self._form = ObjectEditor(node, self._root, value)
        self._form.changed.connect(self.changed)
        self._layout.addWidget(self._form)

    def _chosen(self) -> None:
        kind = self.combo.currentData()
        self._show({**example(self._kinds[kind], self._root), "kind": kind})
        self.changed.emit()

    def value(self) -> dict[str, Any]:
        assert self._form is not None
        return self._form.value()


class ListEditor(Editor):
    """Objects of several kinds, one below the other, that can be added and removed."""

    def __init__(self, node: Schema, root: Schema, value: list[Any]) -> None:
        super().__init__()
        self._node, self._root = resolve(node["items"], root), root
        self._least = node.get("minItems", 0)
        self._items: list[UnionEditor] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        add = QPushButton(f"Add to {node.get('title', 'list').lower()}")
        add.setToolTip("A further one, below the others")
        add.clicked.connect(lambda: self._add(example(self._node, self._root), tell=True))
        self._layout.addWidget(add)
        for item in value:
            self._add(item)

    def _add(self, value: Any, tell: bool = False) -> None:
        item = make_editor(self._node, self._root, value)
        assert isinstance(item, UnionEditor)
        item.changed.connect(self.changed)
        item.header.addWidget(small_button("✕", "Remove", lambda: self._remove(item)))
        self._items.append(item)
        self._layout.insertWidget(self._layout.count() - 1, item)
        if tell:
            self.changed.emit()

    def _remove(self, item: UnionEditor) -> None:
        if len(self._items) > self._least:
            self._items.remove(item)
            item.hide()
            item.deleteLater()
            self.changed.emit()

    def value(self) -> list[Any]:
        return [item.value() for item in self._items]


class TableEditor(Editor):
    """A list of small objects as a compact table: one row each, one column per property."""

    def __init__(self, node: Schema, root: Schema, value: list[dict[str, Any]]) -> None:
        super().__init__()
        self._node, self._root = resolve(node["items"], root), root
        self._least = node.get("minItems", 0)
        self._rows: list[dict[str, ValueEditor]] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(2)
        self._fill(value)

    def _fill(self, rows: list[dict[str, Any]]) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            if item.widget() is not None:
                item.widget().hide()
                item.widget().deleteLater()
        self._rows = []
        columns = self._node["properties"]
        for k, (name, sub) in enumerate(columns.items()):
            label = QLabel(_title(name, sub))
            label.setToolTip(sub.get("description", ""))
            self._grid.addWidget(label, 0, k + 1)
        for i, row in enumerate(rows):
            editors = {name: ValueEditor(sub, row[name]) for name, sub in columns.items()}
            self._grid.addWidget(QLabel(f"{i + 1}"), i + 1, 0)
            for k, editor in enumerate(editors.values()):
                editor.changed.connect(self.changed)
                self._grid.addWidget(editor, i + 1, k + 1)
            more = small_button("+", "Add a level below", lambda i=i: self._copy(i))
            less = small_button("✕", "Remove this level", lambda i=i: self._drop(i))
            less.setEnabled(len(rows) > self._least)
            self._grid.addWidget(more, i + 1, len(columns) + 1)
            self._grid.addWidget(less, i + 1, len(columns) + 2)
            self._rows.append(editors)

    def _copy(self, index: int) -> None:
        rows = self.value()
        self._fill([*rows[: index + 1], rows[index], *rows[index + 1 :]])
        self.changed.emit()

    def _drop(self, index: int) -> None:
        rows = self.value()
        self._fill([*rows[:index], *rows[index + 1 :]])
        self.changed.emit()

    def value(self) -> list[dict[str, Any]]:
        return [{name: e.value() for name, e in row.items()} for row in self._rows]


def make_editor(node: Schema, root: Schema, value: Any, skip: tuple[str, ...] = ()) -> Editor:
    """The editor that fits `node`; `skip` names properties that are kept but not shown."""
    node = resolve(node, root)
    if "oneOf" in node:
        return UnionEditor(node, root, value)
    if node.get("type") == "array":
        if resolve(node["items"], root).get("type") in ("number", "integer"):
            return NumbersEditor(node, value)
        simple = "oneOf" not in resolve(node["items"], root)
        return TableEditor(node, root, value) if simple else ListEditor(node, root, value)
    if node.get("type") == "object":
        return ObjectEditor(node, root, value, skip)
    return ValueEditor(node, value)
