"""The quality study: InterFormer beside the comparison systems on public data."""
