"""``python -m edgekd``, which ``accelerate launch -m edgekd`` and ``torchrun -m edgekd`` call."""

from edgekd.cli import main

main()
