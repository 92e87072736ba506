"""The rejected rows of a run: each with its reason, to be looked at, sent again, or taken along as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from nicegui import ui

from onefold import canonical
from onefold.rejected import KEYLESS
from onefold.roles import EDITOR
from onefold.web import kit, words
from onefold.web.kit import column, el, text
from onefold.web.shell import ask, may, path

ROWS = 500  # shown of a run
Run = dict[str, Any]
COLUMNS = [
    column("key", "Key", mono=True, width="9%"),
    column("code", "Code", width="250px"),
    column("why", "Why"),
    column("row", "Row", mono=True, faint=True, width="24%"),
]


async def resend(run_id: str, code: str | None = None, keys: Sequence[str] = ()) -> None:
    """Try rejected rows of a run again, and say so. Raises OnefoldError."""
    new = await ask(lambda workspace: workspace.start_resend(run_id, code, keys, started_by="web"))
    kit.toast("The rows are tried again, as they are in the warehouse now", "resend", "Follow", href=path("runs", new))


class Rows:
    """The panel of a run's rejected rows; nothing while there are none."""

    def __init__(self, found: Run, rows: list[Run], code: str) -> None:
        self._place = el("div")
        self._code = code if code in found["rejected_by_code"] else ""
        self._rows: list[Run] = []
        self._table: kit.Table | None = None
        self.show(found, rows)

    def show(self, found: Run, rows: list[Run]) -> None:
        """Those that there are now; what is selected stays."""
        if rows == self._rows and found["status"] == getattr(self, "_status", None):
            return
        self._found, self._rows, self._status = found, rows, found["status"]
        self._place.clear()
        if rows:
            with self._place:
                self._build()

    def _build(self) -> None:
        total, codes = self._found["rejected"], self._found["rejected_by_code"]
        selected = self._table.selected if self._table else []
        with kit.panel("Rejected rows", words.number(total)) as (right, _):
            options = [("", f"All {total:,}"), *((code, f"{code} {count:,}") for code, count in codes.items())]
            with right:
                if len(codes) > 1:
                    kit.segments(options, self._code, self._choose, "Code")
                self._actions = kit.row()
            act = [column("act", "Resend", hidden=True, num=True, width="92px")] if self._may_resend else []
            self._table = kit.Table(
                [*COLUMNS, *act], self._cells(), "Rejected rows", dense="34", selectable=self._may_resend, fixed=True
            )
            self._table.select(selected)
            self._table.on_open(self._whole)
            self._table.on_select(lambda _: self._bar())
            self._table.on_act(lambda at, _: resend(self._found["run_id"], keys=[self._key(at)]))
            if total > len(self._rows):
                el("div", "of-panel-foot of-note", f"The first {len(self._rows):,} of {total:,} are shown.")
        self._bar()

    @property
    def _may_resend(self) -> bool:
        return may(EDITOR) and self._found["status"] != "running"

    def _key(self, at: str) -> str:
        return canonical.encode(self._rows[int(at)]["key"])

    def _choose(self, code: str) -> None:
        assert self._table is not None
        self._code = code
        shown = self._cells()
        self._table.select([at for at in self._table.selected if any(at == row["id"] for row in shown)])
        self._table.show(shown)
        self._bar()

    def _bar(self) -> None:
        """What can be done with those that are selected, or with all."""
        assert self._table is not None
        keys = [self._key(at) for at in self._table.selected]
        count = self._found["rejected_by_code"].get(self._code, self._found["rejected"])

        async def send() -> None:
            await resend(self._found["run_id"], self._code or None, keys)
            assert self._table is not None
            self._table.select([])
            self._bar()

        self._actions.clear()
        with self._actions:
            if keys:
                text(f"{len(keys):,} selected", "of-note")
            if self._may_resend:
                said = f"Resend {len(keys):,}" if keys else f"Resend all {count:,}"
                kit.button(said, send, "", "resend", small=True)
            kit.button("Export CSV", self._export, "ghost", "download", small=True)

    def _cells(self) -> list[kit.Cell]:
        """The rows with the chosen code, each by its place among all."""
        return [
            {
                "id": str(at),
                "label": words.flat(one["key"], 60) if one["key"] is not None else "without a key",
                "go": True,
                "off": one["key"] is None or one["code"] in KEYLESS,  # nothing says which row of the warehouse it is
                "key": "—" if one["key"] is None else words.flat(one["key"], 60),
                "code": {"t": one["code"], "code": True},
                "why": one["message"],
                "row": "" if one["row"] is None else words.flat(one["row"], 160),
                "act": None if one["key"] is None or one["code"] in KEYLESS else {"act": "Resend", "ghost": True},
            }
            for at, one in enumerate(self._rows)
            if self._code in ("", one["code"])
        ]

    def _whole(self, at: str) -> None:
        one = self._rows[int(at)]
        with kit.dialog(f"Row {one['key'] if one['key'] is not None else 'without a key'}", wide=True):
            kit.alert(one["message"], original=one["code"])
            if one.get("remedy"):
                el("p", "of-text", one["remedy"])
            kit.dump(one["row"])
            if one.get("call"):
                el("h3", "of-h2", "The call that it became")
                kit.dump(one["call"])

    def _export(self) -> None:
        written = io.StringIO()
        lines = csv.writer(written)
        lines.writerow(["key", "code", "message", "row"])
        for one in self._rows:
            if self._code in ("", one["code"]):
                row = json.dumps(one["row"], ensure_ascii=False)
                lines.writerow([one["key"], one["code"], one["message"], row])
        ui.download.content(written.getvalue(), f"rejected-{self._found['run_id']}.csv", "text/csv")
