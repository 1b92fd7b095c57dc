"""How fast and lean the layer is on this machine, against what one would use instead.

Reading order: `contenders` (what is compared), `layers` (the table over shapes), `crossover`,
`growth` (time against size), `step` (whole training steps of two specs), `overhead` (the training
loop against a bare one); `request` makes one of these of the command line; `table` and `plot` show
what came out.
"""
