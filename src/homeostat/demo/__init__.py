"""The demo: a generated world of card payments that changes while a model watches it."""
