"""Run an experiment: python run.py experiment=NAME key=value ...; alone, it lists them.

The command `attnguide` of an installed package does the same, from any folder.
"""

from attnguide.runs.main import CONF as CONF
from attnguide.runs.main import main

if __name__ == "__main__":
    main()
