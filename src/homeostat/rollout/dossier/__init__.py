"""The dossier: why a rollout ended, or holds, and what would have changed it.

model   what it holds
build   events, looks, versions -> dossier; pure
refused the dossier of a version that was never tried; pure
why     a verdict -> what would have let it come out otherwise; pure
charts  the figures over time, drawn
render  dossier -> Markdown, JSON, one HTML page
"""

from homeostat.rollout.dossier.build import build
from homeostat.rollout.dossier.model import Dossier, Happened, Inputs, Look, Refusal
from homeostat.rollout.dossier.refused import refused

__all__ = ["Dossier", "Happened", "Inputs", "Look", "Refusal", "build", "refused"]
