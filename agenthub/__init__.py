"""AgentHub: the persistent back end of a platform for AI agents. Importing it does nothing."""

__version__ = "0.1.0"
