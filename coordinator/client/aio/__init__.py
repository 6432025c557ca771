"""The typed client on asyncio. What can be called, and what that raises, is as in `coordinator.client`.

```python
import asyncio
from coordinator.client import NotFound
from coordinator.client.aio import connect

async def main():
    async with connect("ws://127.0.0.1:9653") as client:
        try:
            async with asyncio.timeout(60):
                async for event in client.follow_flow(1, 10):
                    print(event.kind, event.status or event.lines)
        except NotFound as error:
            print(error)

asyncio.run(main())
```
"""

from coordinator.client.aio.client import Client, connect

__all__ = ["Client", "connect"]
