"""The errors a user can cause. Each message names what was found, what is required, and what to do next."""


class MvpEdgeError(Exception):
    """Base of every error caused by input; the command line shows it without a traceback and exits 1."""


class ConfigError(MvpEdgeError):
    """A setting, device or base model that cannot be used."""


class TaskError(MvpEdgeError):
    """A class list that cannot be read or understood."""


class DataError(MvpEdgeError):
    """Images that are missing, unreadable or do not fit the class list."""


class PlanError(MvpEdgeError):
    """A keep plan that does not fit its model, or a model that cannot be sliced faithfully."""


class BudgetError(MvpEdgeError):
    """A budget that no sub-network meets."""


class ZooError(MvpEdgeError):
    """A zoo or member that is missing, damaged or made for another base model."""


class ExportError(MvpEdgeError):
    """A model file that cannot be written, read or does not agree with its source."""
