"""Compiles the kernels' C++ when the package is installed or made into a wheel.

All else about the package is in pyproject.toml. Without a C++ compiler the package is installed all
the same; see kernels/native_build.py.
"""

import importlib.util
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.install import install

KERNELS = Path("nnet", "kernels")


def native_build():
    """`nnet.kernels.native_build`, without importing the package: what that needs is not here."""
    specification = importlib.util.spec_from_file_location(
        "native_build", KERNELS / "native_build.py"
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class BuildNative(Command):
    """Puts the libraries into the package; if that is editable, into the sources."""

    description = "compile the kernels' C++ for each instruction set"
    user_options = []  # noqa: RUF012
    editable_mode = False

    def initialize_options(self):
        self.build_lib = None

    def finalize_options(self):
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self):
        module = native_build()
        package = Path() if self.editable_mode else Path(self.build_lib)
        self.announce(module.build(package / KERNELS / module.LIBRARIES), level=3)

    def get_source_files(self):
        return []  # they are data of their packages

    def get_outputs(self):
        folder = Path(self.build_lib) / KERNELS / native_build().LIBRARIES
        return [] if self.editable_mode else [str(file) for file in sorted(folder.glob("*"))]

    def get_output_mapping(self):
        return {}


class PlatformInstall(install):
    """Puts the package where those go that are for a kind of machine."""

    def finalize_options(self):
        super().finalize_options()
        self.install_lib = self.install_platlib


class PlatformWheel(bdist_wheel):
    """A wheel for this kind of machine and any Python: the libraries do not know Python."""

    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


build.sub_commands.append(("build_native", None))
setup(
    cmdclass={
        "build_native": BuildNative,
        "bdist_wheel": PlatformWheel,
        "install": PlatformInstall,
    }
)
