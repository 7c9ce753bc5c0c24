"""The audit of attempts."""

RECOVERED = []


def recover_interrupted_executions():
    RECOVERED.append(True)
    return 0
