"""Entry point for setuptools; everything is declared in setup.cfg."""

from setuptools import setup

setup()
