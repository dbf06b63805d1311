"""What both suites need: pytest inside pytest, and how hypothesis searches."""

import contextlib

pytest_plugins = ["pytester"]

with contextlib.suppress(ImportError):  # acceptance/ runs without the development tools, too
    from hypothesis import HealthCheck, settings

    # The same examples in every run, and no verdict from a slow machine.
    settings.register_profile(
        "harness",
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("harness")
