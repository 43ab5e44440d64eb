"""What pyproject cannot say: configs and experiments travel inside the installed package."""

from setuptools import find_namespace_packages, find_packages, setup

HOME = "attnguide.home"
conf = [f"{HOME}.conf", *(f"{HOME}.conf.{name}" for name in find_namespace_packages("conf"))]

setup(
    packages=[*find_packages("src"), *conf, f"{HOME}.experiments"],
    package_dir={"": "src", f"{HOME}.conf": "conf", f"{HOME}.experiments": "experiments"},
)
