"""The commands `plan` and `replay`: decisions in made-up situations, and made again."""
