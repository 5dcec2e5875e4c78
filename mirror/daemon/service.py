from collections.abc import Callable, Mapping
from mirror.config import Config
from mirror.model import Clock


async def serve(load_config: Callable[[], Config], *, clock: Clock, environment: Mapping[str, str]) -> int:
    return 0
