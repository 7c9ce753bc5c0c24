"""Running a job: what its action is, its supervised process group, its output, and who can tell that it still lives."""
