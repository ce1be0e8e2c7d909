"""Whether a number may be reported: by default only one on all media that the annotations name."""

from collections.abc import Mapping, Sequence

from .evaluation_data import MediaItem, MissingMediaError, missing_media
from .feature_store import FeatureStore

_LISTED = 10


def check_media(name: str, items: Sequence[MediaItem], allow_missing: bool) -> None:
    """Raises `MissingMediaError` before anything is computed, where files are missing and that is not allowed."""
    if not allow_missing:
        _require_complete(name, len(items), missing_media(items), allow_missing)


def check_features(
    name: str, items: Sequence[MediaItem], store: FeatureStore, allow_missing: bool
) -> tuple[dict[int, str], dict[str, str]]:
    """The items that could not be used, with the reason: by position, and by key.

    Raises `MissingMediaError` where there are some and that is not allowed, or where none could be used.
    """
    failures = store.failures()
    missing = {items[position].key: reason for position, reason in sorted(failures.items())}
    _require_complete(name, len(items), missing, allow_missing)
    return failures, missing


def _require_complete(name: str, num_items: int, missing: Mapping[str, str], allow_missing: bool) -> None:
    if not missing or (allow_missing and len(missing) < num_items):
        return
    shown = [f"  {key}: {reason}" for key, reason in list(missing.items())[:_LISTED]]
    if len(missing) > _LISTED:
        shown.append(f"  ... and {len(missing) - _LISTED} more")
    advice = (
        "expected at least one that can"
        if len(missing) == num_items
        else "expected all of them, or leave to report a number on the others (--allow-missing)"
    )
    raise MissingMediaError(
        f"{name}: {len(missing)} of {num_items} items cannot be used; {advice}:\n" + "\n".join(shown)
    )
