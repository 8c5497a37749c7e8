"""What tests of README and documentation share: the code of a page, and less for it to do."""

import re

# Smaller numbers, so that what is written for a reader's evening takes a second.
SMALLER = {
    r"\bsteps=\d+": "steps=5",
    r"\bn=\d+": "n=4",
    r"\bmu=\d+": "mu=4",
    r"\blambda_=\d+": "lambda_=4",
    r"\bngen=\d+": "ngen=1",
    r"\bpopulation=\d\d+": "population=4",
    r"\bgenerations=\d+": "generations=4",
    r"\bbudget=\d+": "budget=200",
    r"\brounds=\d+": "rounds=2",
}


def blocks(text):
    """Return the blocks of Python in a page."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


def smaller(code):
    """Return code with smaller numbers."""
    for pattern, small in SMALLER.items():
        code = re.sub(pattern, small, code)
    return code
