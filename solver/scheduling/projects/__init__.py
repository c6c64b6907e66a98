"""Projects: tasks that wait for one another and share resources. Each gets a start time."""
