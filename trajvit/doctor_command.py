"""`trajvit doctor`: what this installation has and lacks."""

from typing import Any

import typer

from trajvit.command_conventions import FAILED, JsonOption, messages, print_json, print_table, tell

_MARKS = {"ok": "ok", "missing": "-", "broken": "BROKEN"}


def doctor(as_json: JsonOption = False) -> None:
    """Check this installation, and say how to mend what is missing.

    Ends with exit code 0 when everything essential works.
    """
    from trajvit.installation_checks import Check, installation_checks

    checks: list[Check] = []
    with messages().status("looking"):
        checks.extend(installation_checks())
    broken = [check.name for check in checks if check.status == "broken"]
    if as_json:
        told: dict[str, Any] = {"works": not broken, "checks": [check.to_dict() for check in checks]}
        print_json(told)
    else:
        rows = [(_MARKS[check.status], check.name, check.found) for check in checks]
        print_table(("", "what", "found"), rows, left=("", "what", "found"))
        for check in checks:
            if check.mend is not None:
                tell(f"{check.name}:  {check.mend}")
        tell(f"Essentials that do not work: {', '.join(broken)}." if broken else "All essentials work.")
    if broken:
        raise typer.Exit(FAILED)
