"""What a track means: mood, genre and context, asked once per question."""
