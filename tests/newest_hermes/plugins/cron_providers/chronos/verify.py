"""What judges the token of a fire, until somebody puts another in its place."""


def get_fire_verifier():
    raise AssertionError("hermes' own verifier was asked")
