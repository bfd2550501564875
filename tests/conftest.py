"""Settings of every test: Hypothesis tries the same examples each time and keeps no database."""

import os

from hypothesis import settings

# before torch is imported: threads that spin while they wait slow a busy machine down
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: a second thread only waits

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")
