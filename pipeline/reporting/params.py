"""The `report:` section of params.yaml."""

from __future__ import annotations

from pydantic import Field

from base.params import Section

__all__ = ["ReportParams"]


class ReportParams(Section):
    """What report.html shows."""

    examples: int = Field(ge=1, le=24, description="scenes in the pictures; scenes, 1 to 24")
    confidence: float = Field(
        default=0.3, ge=0, le=1, description="least score of a detection that is drawn; 0 to 1"
    )
