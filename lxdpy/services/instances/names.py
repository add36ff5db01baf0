"""Names for instances that came without one."""

import secrets
from collections.abc import Container

_FIRST = tuple(
    """
    able amber apt bold brave brief brisk calm clear clever cosy crisp deft eager early fair fast fine
    firm fit free fresh gentle glad good grand great green happy hardy keen kind lively lucky mellow
    merry mild neat nimble noble plain proud prime quick quiet rapid ready rich royal safe sharp sleek
    smart snug solid sound spry steady still stout sunny sure swift tidy true vivid warm whole wise
    witty young
    """.split()
)
_SECOND = tuple(
    """
    ant badger bear beetle bison carp cat cod condor crab crane crow deer dove duck eagle eel elk falcon
    finch fox frog gecko goat goose gull hare hawk heron ibex ibis jay kite koala lark lion lynx magpie
    marten mink mole moose moth mouse newt orca osprey otter owl panda perch pike plover puffin quail
    rabbit raven robin salmon seal shark shrew skunk sloth snail snipe stoat stork swan swift tapir tern
    tiger toad trout turtle viper vole wasp weasel whale wolf wren yak zebra
    """.split()
)


def pick(taken: Container[str]) -> str:
    """A name that is not taken."""
    while True:
        name = f"{secrets.choice(_FIRST)}-{secrets.choice(_SECOND)}"
        if name not in taken:
            return name
        name = f"{name}-{secrets.randbelow(10_000)}"
        if name not in taken:
            return name
