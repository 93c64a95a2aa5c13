"""Trackers: they log trainings and searches with other programs' libraries, each imported only where it is used."""

from fbnetv3.tracking.libraries import LIBRARIES as LIBRARIES
from fbnetv3.tracking.libraries import open_trackers as open_trackers
from fbnetv3.tracking.tracker import Log as Log
from fbnetv3.tracking.tracker import Tracker as Tracker

__all__ = ["LIBRARIES", "Log", "Tracker", "open_trackers"]
