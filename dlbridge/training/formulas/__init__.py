"""Losses, optimizers, schedules and metrics, each defined once, by its formula."""
