"""Stands in for the interactive shell of Celery's command line, which no worker needs: importing the real one takes a third of a worker's start."""


def register_repl(group):
    pass
