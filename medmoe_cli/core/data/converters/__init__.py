"""Raw public releases to medmoe datasets; one file per source family."""
