"""Let one part of the student inherit from the teacher, and the other explore.

Huang et al., "Revisiting Knowledge Distillation: An Inheritance and Exploration Framework", CVPR
2021, arXiv:2107.00181.

    A_s = [A_inh, A_exp]             the channels of the student's map, split once and for all
    L   = inherit * D(Enc_I(A_inh), Enc_T(A_t)) - explore * D(Enc_E(A_exp), Enc_T(A_t))
    D   = 50 sqrt(N / 2048) * mean | n(X) - n(Y) |,  n(X) = vec(X) / ||vec(X)||

The flavour "ft" is the released one: Enc_T, three convolutions, first learns with a decoder to
rebuild the teacher's last map from a factor of fewer channels; Enc_I and Enc_E, of the same kind,
learn together with the student. For a teacher's map of 2048 channels and a student's of 512, Enc_T
and its decoder have 86 million parameters. Two networks that train as peers with this term are a
reconstruction of IE-DML, whose code is unreleased: each Enc_T learns during the training; a ramp
such as "0..1*iekd" leaves it time to.

The authors' weights of 50 multiply the mean itself; their factors on CIFAR have N = 32x8x8 = 2048
elements, where they are a weight of 1 here. Since the mean shrinks as N grows, the factor above
makes 1 as strong for factors of any size: D is at most 2.2. With ``scale = "paper"`` D is the
plain mean, and 50 is 50. The loss falls below 0 where the exploring part is the farther one.

The flavour "at" needs no encoders: A(X) = vec(mean_c X_c^2) in each pair of stages, and
D = sum over stages of || n(A(X)) - n(A(Y)) ||^2, as in ``at``; the mean of the squares with
``scale = "paper"``. Attention transfer's own weight of 1000 multiplies that mean, which is
1000 / (H*W) times the sum: 1 times at 32x32 places, 3.9 at 16x16 and 15.6 at 8x8. The sum here
weighs all stages alike.

Deviations: the authors released "ft" alone, so "at" is a reconstruction; a third flavour of
theirs, on margin-rectified maps, is left out. Peers are updated at once from the same predictions,
in the paper one after the other. The first channels inherit, as in their code; in the paper they
are drawn (``split``). No activation stands before a coder's first convolution, where theirs has a
leaky one: before an encoder it changes nothing on maps behind a ReLU and bends others, and before
the decoder it would make the leaky values of a factor leak twice. The teacher's map is divided by
its root mean square, measured once on a few images, so that the error it is rebuilt with does not
depend on how large it is. Maps of different sizes are averaged to the smaller before they are
encoded. The released code calls the frozen network the student; here the teacher is frozen, as in
the paper. Enc_E alone can raise its distance and leave the student as it is; ``guard`` prevents
that.

Suits: strong students, and peers: half of the channels stay free to learn what the teacher lacks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from edgekd.data import Batch
from edgekd.features import Features, pair_stages, same_size, spatial
from edgekd.methods import Term
from edgekd.methods._factor import (
    CHOICES,
    AutoEncoder,
    check_choices,
    check_share,
    factor_distance,
    on_grid,
    three_layers,
    unit,
)

__all__ = ["IEKD"]

USUAL = 50.0
OWN_CHOICES = {
    "flavour": ("ft", "at"),
    "split": ("natural", "random"),
    "guard": ("own", "shared", "shared_frozen"),
}


class IEKD(Term):
    """Inheritance and exploration.

    Args:
        flavour: what the two parts are compared by: "ft", factors of the last map, or "at",
            attention maps of every stage.
        ratio: the share of the student's channels that inherits, between 0 and 1.
        split: "natural" lets the first channels inherit, "random" as many drawn once.
        inherit: weight of what draws the one part to the teacher, at least 0.
        explore: weight of what drives the other part away, at least 0.
        scale: "dimfree" for D above, "paper" for the mean without the factor before it.
        factor_dim: channels of a factor; 0 for half of the student's. Flavour "ft", as all below.
        reconstruction: what the teacher's encoder learns by, "l1" as in the authors' code or "l2"
            as in the paper.
        guard: the exploring part's encoder: "own" as in the paper; "shared", the inheriting
            part's, which needs parts of one size; "shared_frozen", the same without teaching it.
        study_share: how long the teacher's encoder studies, as a share of the student's training
            in (0, 1]; the authors took 30 epochs for 160.
    """

    needs = frozenset({"stages"})
    study_lr = 0.1
    of_teacher: AutoEncoder

    def __init__(
        self,
        flavour: str = "ft",
        ratio: float = 0.5,
        split: str = "natural",
        inherit: float = 1.0,
        explore: float = 1.0,
        scale: str = "dimfree",
        factor_dim: int = 0,
        reconstruction: str = "l1",
        guard: str = "own",
        study_share: float = 30 / 160,
    ) -> None:
        super().__init__()
        check_choices(OWN_CHOICES, flavour=flavour, split=split, guard=guard)
        check_choices(CHOICES, scale=scale, reconstruction=reconstruction)
        check_share(study_share)
        if not 0 < ratio < 1:
            raise ValueError(f"ratio must be between 0 and 1, got {ratio}")
        for option, weight in {"inherit": inherit, "explore": explore}.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"{option} must be a number of at least 0, got {weight}")
        if type(factor_dim) is not int or factor_dim < 0:
            raise ValueError(f"factor_dim must be a whole number from 0 up, got {factor_dim!r}")
        self.flavour, self.ratio, self.split, self.scale = flavour, ratio, split, scale
        self.inherit, self.explore = inherit, explore
        self.factor_dim, self.reconstruction, self.guard = factor_dim, reconstruction, guard
        self.study_share = study_share

    def build(self, student: Features, teacher: Features, targets: Tensor) -> None:
        pairs = pair_stages(student, teacher)
        if self.flavour == "ft":
            pairs = pairs[-1:]
            self._build_teacher_encoder(*pairs[0])
        else:
            spatial(same_size(*pair)[0] for pair in pairs)
        parts = [_Parts(s.shape[1], self.ratio, self.split) for s, _ in pairs]
        self.parts = nn.ModuleList(parts)
        if self.flavour == "ft":
            self._build_encoders(*parts[0].sizes)

    def _build_teacher_encoder(self, s: Tensor, t: Tensor) -> None:
        self.width = self.factor_dim or max(1, s.shape[1] // 2)
        there, back = (t.shape[1], self.width), (self.width, t.shape[1])
        encoder, decoder = (three_layers(*ends, _convolution) for ends in (there, back))
        grid = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
        self.of_teacher = AutoEncoder(t, encoder, decoder, self.reconstruction, grid)

    def _build_encoders(self, inheriting: int, exploring: int) -> None:
        self.inheriting = three_layers(inheriting, self.width, _convolution)
        if self.guard == "own":
            self.exploring = three_layers(exploring, self.width, _convolution)
        elif inheriting != exploring:
            raise ValueError(
                f'guard "{self.guard}" needs two parts of one size, got {inheriting} and '
                f'{exploring} channels; take ratio = 0.5 if the number is even, or guard = "own"'
            )

    def study(self, teacher: Features, batch: Batch) -> Tensor:
        return self.of_teacher.study(teacher.stages[-1])

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        compare = self._by_factors if self.flavour == "ft" else self._by_attention
        near, far = compare(student, teacher)
        return self.inherit * near - self.explore * far

    def _by_factors(self, student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            wanted = self.of_teacher(teacher.stages[-1])
        inheriting, exploring = self.parts[0](on_grid(student.stages[-1], self.of_teacher.grid))
        found = self.inheriting(inheriting), self._explored(exploring)
        near, far = (factor_distance(factor, wanted, self.scale, USUAL) for factor in found)
        return near, far

    def _explored(self, map: Tensor) -> Tensor:
        encoder = self.exploring if self.guard == "own" else self.inheriting
        frozen = self.guard == "shared_frozen"
        fixed = {k: p.detach() for k, p in encoder.named_parameters()} if frozen else {}
        factor: Tensor = functional_call(encoder, fixed, map) if frozen else encoder(map)
        return factor

    def _by_attention(self, student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
        every = zip(self.parts, pair_stages(student, teacher), strict=True)
        distances = [[self._attention(part, t) for part in parts(s)] for parts, (s, t) in every]
        near, far = torch.stack([torch.stack(pair) for pair in distances]).sum(0)
        return near, far

    def _attention(self, part: Tensor, teacher: Tensor) -> Tensor:
        maps = same_size(*(map.square().mean(1, keepdim=True) for map in (part, teacher)))
        a, b = (unit(map.flatten(1)) for map in maps)  # (B, H*W)
        squares = (a - b).square()
        return squares.mean() if self.scale == "paper" else squares.sum(1).mean()


class _Parts(nn.Module):
    """Which channels inherit, and which explore."""

    order: Tensor

    def __init__(self, channels: int, ratio: float, split: str) -> None:
        super().__init__()
        inheriting = int(channels * ratio)
        if not 0 < inheriting < channels:
            raise ValueError(
                f"ratio {ratio} of {channels} channels leaves a part empty; "
                "give a ratio nearer to 0.5, or take a student with wider maps"
            )
        self.sizes = [inheriting, channels - inheriting]
        order = torch.randperm(channels) if split == "random" else torch.arange(channels)
        self.register_buffer("order", order)

    def forward(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """The two parts of a map (B, C, H, W)."""
        inheriting, exploring = torch.split(map.index_select(1, self.order), self.sizes, dim=1)
        return inheriting, exploring


def _convolution(given: int, out: int) -> list[nn.Module]:
    layer = nn.Conv2d(given, out, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return [layer, nn.BatchNorm2d(out)]
