"""The models that one server holds beside each other: loading, serving, rolling back, shadows."""
