"""The time that the banks of the feature maps take for words that the array's rows want at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def turns(words: NDArray[np.int64], used: NDArray[np.bool_], rows: int) -> NDArray[np.int64]:
    """Cycles in which the banks give these words to all rows, int64 [tiles] of words [tiles, rows]: one at least."""
    wanted = np.zeros(words.shape, np.int64)
    np.add.at(wanted, (np.nonzero(used)[0], words[used] % rows), 1)
    most: NDArray[np.int64] = np.maximum(wanted.max(axis=1), 1)
    return most
