"""One global batch on any number of processes: how many rows each takes at once, and how often before a step."""


def share_batch(batch_size: int, processes: int, at_most: int | None = None) -> tuple[int, int]:
    """(rows of a process in one pass, passes before an optimizer step) with rows x passes x processes = batch_size.

    at_most: rows that fit into a process's memory at once; None: all of its share. Raises ValueError where one does not divide."""
    share, left = divmod(batch_size, processes)
    if left or not share:
        raise ValueError(
            f"batch_size {batch_size} does not divide into {processes} process(es); give a multiple of {processes}"
        )
    rows = min(share, at_most or share)
    if share % rows:
        raise ValueError(
            f"batch_size {batch_size} on {processes} process(es) is {share} rows each, which does not divide into passes of "
            f"per_device_train_batch_size {at_most}; give a divisor of {share}"
        )
    return rows, share // rows
