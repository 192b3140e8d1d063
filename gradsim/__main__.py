"""``python -m gradsim``."""

from gradsim.cli import main

main(prog_name="gradsim")
