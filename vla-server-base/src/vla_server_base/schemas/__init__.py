"""The wire types: what comes in and goes out as JSON, validated once at the door."""
