"""Taking things out of a store: a mirror, a document or a stored file, always checked on its way.

Only reads the store. A damaged thing is left out and named, everything else is taken out. What is taken out
is made apart and moved to its place when it is finished.
"""

from mirror.extract.choice import WORKSPACE, choose, places_of, problem_of, readable, unreadable
from mirror.extract.consistency import Folder, read_consistently, version_of
from mirror.extract.destination import EXPORTING, RESTORING, check_place, not_empty
from mirror.extract.extraction import CODE, Extracted, Form, Order, extract
from mirror.extract.files import copy_objects, lfs_reached

__all__ = [
    "CODE",
    "EXPORTING",
    "RESTORING",
    "WORKSPACE",
    "Extracted",
    "Folder",
    "Form",
    "Order",
    "check_place",
    "choose",
    "copy_objects",
    "extract",
    "lfs_reached",
    "not_empty",
    "places_of",
    "problem_of",
    "read_consistently",
    "readable",
    "unreadable",
    "version_of",
]  # fmt: skip
