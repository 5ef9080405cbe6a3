"""How images and labels come: folders, archives, tables, Parquet, and data sets that libraries bring."""
