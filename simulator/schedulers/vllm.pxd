from simulator.replica.batch cimport Batch
from simulator.replica.replica cimport Replica
