"""What is done to a forward pass beside computing it: gates, a shifted row of scores, a mask, frozen norms, dropout.

An intervention is data: one pytree that goes through the encoders, of which every default means that nothing is done. Several
interventions are an axis of one program.

Axes: q, t query and key positions, p positions, h heads.
"""

from typing import TYPE_CHECKING, Optional

import jax
from flax import struct

from lrjax.gates import ENCODERS, Gates

if TYPE_CHECKING:
    from lrjax.models.encoder import Scales


@struct.dataclass
class Interventions:
    """What is done to one encoder.

    Attributes:
        gates: Factors [depth, h, 12] on the terms of every block, in the order of `attention.GATES`. None: all are 1.
        score_shift: What is added to the readout's row of scores [h, p] of a one-block encoder. Beside a gate of 0 it puts another
            row in the place of a term: a control.
        gate_mask: Where gates act [q, t]; the gates of values act at the keys t that some query has. None: everywhere.
        frozen_norm_scale: The scales that LayerNorm has in place of its own.
        norm_gates: Gates [depth, h, 12] under which LayerNorm takes its scales, in place of `gates`; `frozen_norm_scale` is not
            read then.
        dropout_key: What dropout is drawn from in a training step. None: there is no dropout.
    """

    gates: jax.Array | None = None
    score_shift: jax.Array | None = None
    gate_mask: jax.Array | None = None
    frozen_norm_scale: Optional["Scales"] = None
    norm_gates: jax.Array | None = None
    dropout_key: jax.Array | None = None


@struct.dataclass
class ModelInterventions:
    """What is done to the two encoders of a model."""

    vision: Interventions = Interventions()
    text: Interventions = Interventions()

    @classmethod
    def of_gates(
        cls, gates: Gates, *, norm_gates: Gates | None = None, dropout_key: jax.Array | None = None
    ) -> "ModelInterventions":
        """The gates of both encoders, with the gates under which LayerNorm takes its scales, and the dropout of a training step.
        Each encoder draws its dropout from a key of its own.
        """

        def of(name: str) -> Interventions:
            key = None if dropout_key is None else jax.random.fold_in(dropout_key, ENCODERS.index(name))
            return Interventions(getattr(gates, name), norm_gates=getattr(norm_gates, name, None), dropout_key=key)

        return cls(of("vision"), of("text"))
