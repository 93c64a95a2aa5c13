"""What a search would answer if it ended now: its best trial so far. For the report of a search that has not ended."""

from __future__ import annotations

from fbnetv3.errors import InputError
from fbnetv3.search.nars.proposal import Proposal
from fbnetv3.search.runs.final import pair_of_proposal
from fbnetv3.search.runs.folder import SearchFolder, SearchResult
from fbnetv3.search.runs.status import best_so_far


def provisional_results(search: SearchFolder) -> list[SearchResult]:
    """Return the best trial so far of every method that has one, NARS first, as if it were the answer.

    It was not predicted, and it has no final training.

    Raises:
        InputError: no training has succeeded yet, or the ledger is damaged.
    """
    context, results = search.context, list[SearchResult]()
    for method in search.methods:
        trials = search.trials(method)
        found = best_so_far(context, method, trials)
        if found is None:
            continue
        best, epochs = found
        # A standard deviation of 0 means that it was measured, and not predicted.
        accuracy = best.acc1[min(epochs, len(best.acc1)) - 1]
        proposal = Proposal(tuple(best.candidate), (accuracy, 0.0), epochs)
        pair = pair_of_proposal(context, method, proposal, trials, {})
        results.append(SearchResult(method, pair, proposal, tuple(trials), (), best.flops, best.params))
    if not results or results[0].method != "nars":
        raise InputError(f"the search in {search.path} has no training yet that succeeded: there is nothing to report")
    return results
