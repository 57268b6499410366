"""Where requests were served: stays at replicas."""

NO_REPLICA = -1


# What became of a request at some time: it was sent to a replica, or was thrown out of it.
SENT, LEFT_QUEUE, LEFT_RUNNING = range(3)
