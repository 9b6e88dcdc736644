"""Taobao Ad, impressions of display ads with clicks (Alibaba's Ali_Display_Ad_Click, research use;
https://tianchi.aliyun.com/dataset/56). Reads the directory it was unpacked to.

    raw_sample.csv     user, time_stamp, adgroup_id, pid, nonclk, clk      one impression a line
    ad_feature.csv     adgroup_id, cate_id, campaign_id, customer, brand, price
    user_profile.csv   userid, final_gender_code, age_level, shopping_level, ...

`clk` is the label. behavior_log.csv is left out: it tells categories and brands, not ads, so it is no
history of items. Which impressions are one list is the caller's choice.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.data.location import directory_of
from model.data.sessions import Impression, SessionsConfig, lists_of
from model.data.slate import Dataset
from model.data.tables import rows

NAME = "taobao_ad"
UPSTREAM = "Ali_Display_Ad_Click, https://tianchi.aliyun.com/dataset/56"
SAMPLE = ("user", "time_stamp", "adgroup_id", "clk")
AD = ("adgroup_id", "cate_id", "campaign_id", "customer", "brand", "price")
PROFILE = ("userid", "final_gender_code", "age_level", "shopping_level")


def load(directory: Path | None = None, sessions: SessionsConfig | None = None) -> Dataset:
    """Lists by user; without a directory from where data lies.

    Raises:
        DataUnavailableError: the files are not in `directory`.
        TableError: a file has another layout.
    """
    found = directory_of(NAME, UPSTREAM) if directory is None else directory
    impressions = _impressions(found / "raw_sample.csv")
    ads, users = _ads(found / "ad_feature.csv"), _users(found / "user_profile.csv")
    return lists_of(NAME, impressions, ads, users, sessions or SessionsConfig())


def _impressions(path: Path) -> Iterator[Impression]:
    for row in rows(path, SAMPLE):
        yield Impression(row["user"], row["adgroup_id"], float(row["time_stamp"]), row["clk"] == "1")


def _ads(path: Path) -> dict[str, dict[str, Any]]:
    return {
        row["adgroup_id"]: {
            "category": row["cate_id"],
            "campaign": row["campaign_id"],
            "customer": row["customer"],
            "price": float(row["price"]),
            **({"brand": row["brand"]} if row["brand"] not in ("", "NULL") else {}),
        }
        for row in rows(path, AD)
    }


def _users(path: Path) -> dict[str, dict[str, Any]]:
    return {
        row["userid"]: {
            "gender": row["final_gender_code"],
            "age": row["age_level"],
            "shopping": row["shopping_level"],
        }
        for row in rows(path, PROFILE)
    }
