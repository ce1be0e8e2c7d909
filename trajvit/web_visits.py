"""Who is visiting the web page: each visitor's files and video, apart from all others', and gone when they leave."""

import contextlib
import os
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trajvit.web_limits import VisitorError

if TYPE_CHECKING:
    from trajvit.web_session import VisitorVideo

GONE = "This video is no longer here: the page was idle for long, or closed. Please send it again."


@dataclass(eq=False)
class Visit:
    """What one visitor has: a folder of their own, the uploads they sent, and the video that is looked at."""

    folder: Path
    uploads: set[Path] = field(default_factory=set)
    video: "VisitorVideo | None" = None
    last_seen: float = field(default_factory=time.monotonic)
    has_ended: bool = False


class Visits:
    """The visitors that are there now.

    Args:
        folder: Of the server's uploads. Files outside are never opened for a visitor, and all inside are theirs.
        most: Visitors whose videos are kept; beyond it, who was idle for longest must send theirs again.
    """

    def __init__(self, folder: Path, most: int = 32):
        self.folder = Path(os.path.realpath(folder))
        self.most = most
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._visits)

    def of(self, session: str) -> Visit:
        """The visit of a browser's session; a new one where there is none."""
        with self._lock:
            if session not in self._visits:
                while len(self._visits) >= self.most:
                    self._end(min(self._visits, key=lambda name: self._visits[name].last_seen))
                # Nobody guesses this name, so that no other visitor can ask for the files in it.
                folder = self.folder / f"visit-{secrets.token_hex(16)}"
                folder.mkdir(parents=True, mode=0o700)
                self._visits[session] = Visit(folder)
            visit = self._visits[session]
            visit.last_seen = time.monotonic()
            return visit

    def video_of(self, session: str) -> "VisitorVideo":
        """The video that a visitor looks at.

        Raises:
            VisitorError: There is none.
        """
        with self._lock:
            visit = self._visits.get(session)
            if visit is None or visit.video is None:
                raise VisitorError(GONE)
            visit.last_seen = time.monotonic()
            return visit.video

    def admit(self, session: str, path: str | None, what: str = "a video") -> Path:
        """The real path of a visitor's upload, which goes when they do.

        Raises:
            VisitorError: There is none, or it lies, once links are followed, outside the folder of uploads, or in the
                folder of a visitor.
        """
        if not path:
            raise VisitorError(f"Upload {what} first, record one, or take the example.")
        real = Path(os.path.realpath(path))
        try:
            inside = real.relative_to(self.folder)
        except ValueError:
            raise VisitorError("This file was not uploaded here, so it is not opened.") from None
        if inside.parts and inside.parts[0].startswith("visit-"):
            raise VisitorError("This file was not uploaded here, so it is not opened.")
        if not real.is_file():
            raise VisitorError("The upload is no longer here. Please send it again.")
        visit = self.of(session)
        with self._lock:
            visit.uploads.add(real)
        return real

    def keep(self, visit: Visit, video: "VisitorVideo") -> None:
        """Make a video the one that its visitor looks at; the files of the one before are removed.

        Raises:
            VisitorError: The visitor has left.
        """
        with self._lock:
            if visit.has_ended:
                shutil.rmtree(video.folder, ignore_errors=True)
                raise VisitorError(GONE)
            before, visit.video = visit.video, video
        if before is not None:
            shutil.rmtree(before.folder, ignore_errors=True)

    def end(self, session: str) -> None:
        """Forget a visitor and delete their files."""
        with self._lock:
            if session in self._visits:
                self._end(session)

    def end_all(self) -> None:
        """Forget all visitors and delete the folder of uploads."""
        with self._lock:
            for session in list(self._visits):
                self._end(session)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, session: str) -> None:
        visit = self._visits.pop(session)
        visit.has_ended = True
        visit.video = None
        shutil.rmtree(visit.folder, ignore_errors=True)
        # The same file sent by two visitors is stored once.
        others = {path for other in self._visits.values() for path in other.uploads}
        for path in visit.uploads - others:
            path.unlink(missing_ok=True)
            if path.parent != self.folder:
                with contextlib.suppress(OSError):  # it holds another file, or is gone
                    path.parent.rmdir()
