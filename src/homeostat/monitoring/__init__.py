"""What is watched while a model serves: what came in (`profiles`), whether it is what the model was
made for (`drift`), whether the answers are right (`quality`), who is told (`alerts`), and how far
all of it can be trusted (`calibration`). `window` puts one window together, `model` is what is
remembered of all; `report` compares any two tables for people.
"""
