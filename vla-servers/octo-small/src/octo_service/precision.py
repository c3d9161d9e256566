"""How precisely matrices are multiplied: float32, as the device does by default, or bfloat16 with sums in float32."""

from typing import Literal

Precision = Literal["highest", "default", "bf16"]
