"""Does an item of a data set depend on its index? Called by the check of the loop's rows."""

from collections.abc import Sequence
from typing import Any

from tui_lab.core.doctor.checks.data.shared_items import item_digest
from tui_lab.core.doctor.loop.observed import RepeatedItems
from tui_lab.core.user_code.import_file import seed_everything
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng

MAX_ITEMS = 4


def depend_on_index(repeated: RepeatedItems) -> bool:
    """Return whether the items differ by their index, and by nothing but the global random numbers.

    A data set may draw something of its items at random, such as an augmentation; or it may draw whole items, and
    ignore the index that it is asked for.
    """
    try:
        first = _digests(repeated.dataset, repeated.indices[:MAX_ITEMS])
        again = _digests(repeated.dataset, repeated.indices[:MAX_ITEMS])
    except Exception:  # Whatever the user's data set raises, such as for a file that the script has closed.
        return False
    return None not in first and first == again and len(set(first)) == len(first) > 1


def _digests(dataset: Any, indices: Sequence[Any]) -> list[bytes | None]:
    """Return a hash of each item, all of them read with the same random numbers."""
    digests = []
    with unchanged_rng():
        for index in indices:
            seed_everything(0)
            digests.append(item_digest(dataset[index]))
    return digests
