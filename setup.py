"""Puts what is recorded into the package: tables and models are there without a checkout."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithResults(build_py):
    """Modules, and the folder of results as `recorded` beside them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            recorded = Path(self.build_lib, "thesis_repro", "recorded")
            shutil.rmtree(recorded, ignore_errors=True)  # of an earlier build
            shutil.copytree("results", recorded)


setup(cmdclass={"build_py": WithResults})
