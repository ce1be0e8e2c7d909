"""Draws trajectories over the frames they belong to. Videos, contact sheets and timelines come from here too."""

from .contact_sheet import contact_sheet
from .overlay import draw_overlay
from .timeline import timeline
from .trajectory_colors import trajectory_colors
from .video_writing import write_video

__all__ = ["contact_sheet", "draw_overlay", "timeline", "trajectory_colors", "write_video"]
