"""Clean the student's map and logits by diffusion, then match the teacher's.

Huang, Zhang, Zheng, You, Wang, Qian & Xu, "Knowledge Diffusion for Distillation", NeurIPS 2023,
arXiv:2305.15712. The student's features are taken for the teacher's with noise on them.

    x  = g A(F_s) + (1 - g) eps,   g = gate(A(F_s)) in (0, 1),   eps ~ N(0, 1)
    n times, t = (n-1)s, ..., s, 0 with s = 1000 // 2n, ab_{-s} = 1:
    x <- sqrt(ab_{t-s}) (x - sqrt(1 - ab_t) e) / sqrt(ab_t) + sqrt(1 - ab_{t-s}) e,   e = net(x, t)
    R  = out(x)
    L  = d(R, T) + a mean( net(sqrt(ab_t) T + sqrt(1 - ab_t) z, t) - z )^2 + b mean( W(T) - F_t )^2

A is a 1x1 convolution, ab the usual linear schedule, z ~ N(0, 1) and t uniform in 0..999. T is the
code a linear autoencoder with decoder W makes of the teacher's map F_t (its last term alone trains
it), or F_t itself, with no last term. One such L for the last map, with d the mean square; one for
the logits, with T = F_t and d of softened logits. Their sum is the loss; the authors weigh it 1
beside a cross-entropy of 1.

Deviations: convolutions before a batch norm have no bias, which it would cancel, the batch norms
no running statistics and the table of times no unused rows; where the maps differ in size, the
larger is averaged down to the smaller first. The authors' ImageNet recipes give the autoencoder
1024 channels, more than a ResNet-34 has; here ``latent`` is none up to 512 channels, then half of
them and at most 1024. The gate tends to 1 (no noise) while it learns, as theirs does.
``freeze_noise_net`` is this project's own: theirs learns from the distance too. For correlations of
probabilities that hardly vary see ``dist``.

Suits: a student far below its teacher, whose features are worth cleaning; costs time in training.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.data import Batch
from edgekd.features import LOGITS, Features, pair_stages, same_size
from edgekd.methods import Term
from edgekd.methods._diffusion import TIMES, Branch, Diffused
from edgekd.methods._logits import divergence, relations

__all__ = ["DiffKD"]


class DiffKD(Term):
    """Knowledge diffusion.

    Args:
        on: what is cleaned and matched: ``maps``, ``logits`` or ``both``.
        latent: channels of the autoencoder's code of the teacher's map, rounded up to a multiple
            of 8; at 0 none is made for up to 512 channels, and one of half of them, at most 1024,
            above.
        steps: how many steps of reverse diffusion clean the student's features.
        distance: of logits: ``kl``, or ``dist`` for the correlations of the term ``dist``.
        temperature: softening of both distributions of logits, above 0.
        diffusion_weight: the factor a of the loss that trains the noise network.
        autoencoder_weight: the factor b of the autoencoder's loss.
        freeze_noise_net: whether the noise network learns from the teacher's features alone,
            rather than, as the authors have it, from the distance as well.
    """

    needs = frozenset({"stages"})

    def __init__(
        self,
        on: str = "both",
        latent: int = 0,
        steps: int = 5,
        distance: str = "kl",
        temperature: float = 1.0,
        diffusion_weight: float = 1.0,
        autoencoder_weight: float = 1.0,
        freeze_noise_net: bool = False,
    ) -> None:
        super().__init__()
        kinds = ("both", "maps", "logits")
        _require(on in kinds, f"on must be one of {', '.join(kinds)}", on)
        _require(distance in ("kl", "dist"), "distance must be kl or dist", distance)
        _require(isinstance(latent, int) and latent >= 0, "latent must be a width, or 0", latent)
        possible = isinstance(steps, int) and 1 <= steps <= TIMES // 2
        _require(possible, f"steps must be a whole number from 1 to {TIMES // 2}", steps)
        _require(temperature > 0, "temperature must be above 0", temperature)
        _require(diffusion_weight > 0, "diffusion_weight must be above 0", diffusion_weight)
        _require(autoencoder_weight > 0, "autoencoder_weight must be above 0", autoencoder_weight)
        told = isinstance(freeze_noise_net, bool)
        _require(told, "freeze_noise_net must be true or false", freeze_noise_net)
        if on == "logits":
            self.needs = LOGITS  # networks without maps will do
        self.on, self.latent, self.steps, self.distance = on, latent, steps, distance
        self.temperature, self.freeze_noise_net = temperature, freeze_noise_net
        self.whole_batch = distance == "dist" and on != "maps"
        self.diffusion_weight, self.autoencoder_weight = diffusion_weight, autoencoder_weight

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        self.branches = nn.ModuleDict()
        for name, (s, t) in self._matched(student, teacher).items():
            vector = name == "logits"
            latent = 0 if vector else self._code_width(t.shape[1])
            self.branches[name] = Branch(s, t, latent, vector, self.steps, self.freeze_noise_net)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        losses = []
        for name, (s, t) in self._matched(student, teacher).items():
            found: Diffused = self.branches[name](s, t)
            losses.append(
                self._distance(name, found.refined, found.target)
                + self.diffusion_weight * found.noise_loss
                + self.autoencoder_weight * found.code_loss
            )
        return sum(losses[1:], losses[0])

    def no_weight_decay(self) -> set[str]:
        return {f"branches.{name}.net.time.weight" for name in self.branches}

    def _matched(self, student: Features, teacher: Features) -> dict[str, tuple[Tensor, Tensor]]:
        """What each branch looks at, (B, C, H, W) each; logits are maps of one place."""
        pairs = {}
        if self.on != "logits":
            pairs["maps"] = same_size(*pair_stages(student, teacher)[-1])
        if self.on != "maps":
            pairs["logits"] = student.logits[:, :, None, None], teacher.logits[:, :, None, None]
        return pairs

    def _code_width(self, channels: int) -> int:
        """Channels of the code of a teacher's map, 0 for no code."""
        automatic = min(1024, channels // 2) if channels > 512 else 0
        return math.ceil((self.latent or automatic) / 8) * 8

    def _distance(self, name: str, refined: Tensor, target: Tensor) -> Tensor:
        if name == "maps":
            return F.mse_loss(refined, target)
        pair = refined.flatten(1), target.flatten(1)  # (B, K) each
        if self.distance == "kl":
            return divergence(*pair, self.temperature)
        rows, columns = relations(*pair, self.temperature)
        return rows + columns


def _require(fulfilled: bool, what: str, got: object) -> None:
    if not fulfilled:
        raise ValueError(f"{what}, got {got!r}")
