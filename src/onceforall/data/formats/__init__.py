"""Formats of images and labels: folders, archives, tables, Parquet, and data sets from libraries."""
