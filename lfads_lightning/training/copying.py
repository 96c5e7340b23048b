"""When a model copies the spikes it sees: the threshold, and what to do about it.

Used during training (:mod:`.watch`) and afterwards (:mod:`lfads_lightning.inference.copying`).
"""

# the share of the seen entries' gain over mean rates that entries never shown must reach
LEAST_SHARE = 0.6
REMEDY = (
    "use coordinated dropout (data.coordinated_dropout_rate=0.3), fewer inferred inputs "
    "(model.co_dim), more dropout or more L2"
)
