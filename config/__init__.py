"""Configuration: the settings tree, where its values come from, and what is wrong with them."""

from config.checks import find_problems
from config.problems import ArgumentError, ConfigurationError, Problem
from config.sections import ModeName, ModeRule
from config.settings import Settings
from config.sources import load_settings

__all__ = (
    "ArgumentError",
    "ConfigurationError",
    "ModeName",
    "ModeRule",
    "Problem",
    "Settings",
    "find_problems",
    "load_settings",
)
