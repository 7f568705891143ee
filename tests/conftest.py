"""Settings of the whole test suite."""

import os

from hypothesis import settings

# A first example pays for compilation, so no example has a deadline. Where the tests judge a
# change, they draw the same examples each time; elsewhere they go on looking for new ones.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
