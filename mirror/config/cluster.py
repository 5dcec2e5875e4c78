"""The section of the configuration for a cluster of hosts."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StrictInt, StrictStr
from pydantic.dataclasses import dataclass as section

from mirror.config import values
from mirror.config.types import RULES, Secret


@section(frozen=True, config=RULES)
class ClusterConfig:
    """The cluster that this host's store belongs to; needs PostgreSQL, and the extra `cluster`."""

    database: Secret = Field(
        description="The source of the address of the PostgreSQL database that all hosts share, as libpq "
        "reads it. It contains a password, and is a secret."
    )
    shard: Annotated[StrictStr, AfterValidator(values.shard)] = Field(
        description="The name of this host's store in the cluster. No other host may have the same.",
        examples=["backup-1"],
    )
    weight: StrictInt = Field(
        default=1,
        ge=1,
        le=1000,
        description="How many new repositories this shard takes for each one of a shard of weight 1.",
    )
