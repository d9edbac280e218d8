"""What a person has to put right: the front door prints its message and ends with status 1."""


class ProblemError(RuntimeError):
    """The message is one plain text that says what is wrong and what to do."""
