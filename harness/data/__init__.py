"""Records, splits and the checks of both.

``read_records`` makes the record table, ``draw_split`` cuts it, ``compare_distributions`` says
whether the test set is representative, and ``find_leaks`` whether it is separate.
"""

from harness.data.leakage import LeakReport, find_leaks
from harness.data.read import read_records
from harness.data.records import RECORD_COLUMNS, RecordSet, check_records, digest_content
from harness.data.representativeness import Representativeness, compare_distributions
from harness.data.split import Split, draw_split

__all__ = [
    "RECORD_COLUMNS",
    "LeakReport",
    "RecordSet",
    "Representativeness",
    "Split",
    "check_records",
    "compare_distributions",
    "digest_content",
    "draw_split",
    "find_leaks",
    "read_records",
]
