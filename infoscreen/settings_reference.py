"""The table of all settings in ``docs/configuration.md``, written from ``Settings``.

``python -m infoscreen.settings_reference docs/configuration.md`` renews it; a test fails when it is stale.
"""

import sys
from pathlib import Path

from infoscreen.settings import Settings, allowed

BEGIN = "<!-- written by infoscreen.settings_reference: begin -->"
END = "<!-- end -->"


def default(name: str) -> str | None:
    """Return the default as one would give it; None if there is none or if it is computed."""
    field = Settings.model_fields[name]
    value = field.default
    if field.default_factory is not None or value is None or value == ():
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown_default(name: str) -> str:
    computed = Settings.model_fields[name].json_schema_extra
    if isinstance(computed, dict):
        return str(computed["shown_default"])
    given = default(name)
    return "unset" if given is None else f"`{given}`"


def table() -> str:
    """Return the table in Markdown."""
    rows = ["| variable | default | allowed | |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name.upper()}` | {_shown_default(name)} | {allowed(name)} | {field.description} |")
    return "\n".join(rows)


def renewed(document: str) -> str:
    """Return the document with the table between its two marks replaced."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(renewed(target.read_text(encoding="utf-8")), encoding="utf-8")
