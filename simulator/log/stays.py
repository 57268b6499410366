"""Stays of requests at replicas."""

NO_REPLICA = -1

# Events of a stay: the request was sent to a replica, or a failure removed it while it waited or ran there.
SENT, LEFT_QUEUE, LEFT_RUNNING = range(3)
