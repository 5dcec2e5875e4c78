"""Extracting mirrors, documents and stored files from a store, with every byte checked.

Only reads the store. Damaged content is reported and left out; everything else is extracted. The output is
written to a temporary folder and moved to its place when it is complete.
"""

from mirror.extract.choice import WORKSPACE, choose, places_of, problem_of, readable, unreadable
from mirror.extract.consistency import read_consistently, version_of
from mirror.extract.destination import EXPORTING, RESTORING, check_place, not_empty
from mirror.extract.extraction import CODE, Extracted, ExtractOptions, Form, Report, extract
from mirror.extract.files import copy_objects, lfs_reached
from mirror.extract.git_file import GitFile, git_file

__all__ = [
    "CODE",
    "EXPORTING",
    "RESTORING",
    "WORKSPACE",

    "ExtractOptions",
    "Extracted",
    "Form",
    "GitFile",
    "Report",
    "check_place",
    "choose",
    "copy_objects",
    "extract",
    "git_file",
    "lfs_reached",
    "not_empty",
    "places_of",
    "problem_of",
    "read_consistently",
    "readable",
    "unreadable",
    "version_of",
]  # fmt: skip
