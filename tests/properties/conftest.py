"""Profiles of hypothesis: "ci", the default, and "night" (``--hypothesis-profile night``)."""

from hypothesis import Phase, settings

# The same few examples in every run: a failure is never a matter of luck, and nothing is written.
settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=20,
    deadline=None,
    database=None,
    print_blob=False,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),  # to explain would take minutes
)
# Other examples in every run. Failures are kept in .hypothesis/ and tried first by the next run.
settings.register_profile(
    "night", derandomize=False, max_examples=500, deadline=None, print_blob=True
)
# Does not override the option: pytest applies that later.
settings.load_profile("ci")
