"""A shop's rules: `python -m examples.shop BUNDLE`. The sponsored product comes first, at most three of a
brand stand among the ten, one new arrival is among the first three, and nothing that was bought is shown.
"""

from itertools import cycle
from pathlib import Path

from eglr_client import Client, Event

from launch.bundles import bundle_argument
from launch.service import ServiceProcess
from loadtest.payloads import read_item_ids

BRANDS = ("acorn", "birch", "cedar", "damson")


def main(bundle: Path) -> list[str]:
    products = read_item_ids(bundle)[:24]
    brands: dict[str, list[str]] = {}
    for product, brand in zip(products, cycle(BRANDS), strict=False):
        brands.setdefault(brand, []).append(product)
    sponsored, bought, arrivals = products[20], products[:3], products[16:20]

    with (
        ServiceProcess(bundle, "--drain-s", "0", "--log-level", "warning") as service,
        Client(service.url, deadline_ms=2000) as client,
    ):
        client.add_events("ada", [Event(product, "click") for product in bought])
        ranking = client.rerank(
            products,
            user_id="ada",
            top_n=10,
            strict=True,
            constraints={
                "pinned": [{"id": sponsored, "position": 0}],
                "excluded": bought,
                "at_most": [{"group": brand, "count": 3} for brand in brands],
                "at_least": [{"group": "new", "count": 1, "top": 3}],
                "groups": {**brands, "new": arrivals},
            },
        )
    brand_of = {product: brand for brand, own in brands.items() for product in own}
    for place, product in enumerate(ranking.ids, start=1):
        marks = [name for name, own in (("sponsored", [sponsored]), ("new", arrivals)) if product in own]
        print(f"{place:2}  {product}  {brand_of[product]}  {' '.join(marks)}".rstrip())
    return ranking.ids


if __name__ == "__main__":
    main(bundle_argument(__doc__))
