"""The bodies of the commands: ``tood.cli.<command>.main(args) -> int``.

Their parsers are in ``tood_runtime.cli``, which starts without torch and imports only the body of
the command that was called.
"""
