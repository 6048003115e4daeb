"""Operators on jagged tensors: plain functions of tensors with one public entry point each. Imports torch, never torchrec."""
