"""An executable companion to a thesis on conceptually sound neural networks.

Import the part that is needed: ``from thesis_repro import data, nets``. Nothing heavy is
imported here.
"""

__version__ = "2026.11"
