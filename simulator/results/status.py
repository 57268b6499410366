"""Final statuses of requests, and their names in the summary."""

FINISHED, IGNORED, UNFINISHED, STUCK, NOT_ARRIVED, LOST = range(6)
STATUS_NAMES = {
    "num_finished": FINISHED,
    "num_ignored": IGNORED,
    "num_unfinished": UNFINISHED,
    "num_stuck": STUCK,
    "num_not_arrived": NOT_ARRIVED,
    "num_lost": LOST,
}
